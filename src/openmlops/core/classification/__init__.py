"""Classification: metrics and the task definition."""
