"""Detection: matching, average precision, evaluation, and its task."""
