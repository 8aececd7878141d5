"""Classification: metrics, and its task."""
