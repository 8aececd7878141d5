"""Detection: matching, average precision, evaluation and the task definition."""
