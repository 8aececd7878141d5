"""The pipelines, as ZenML runs them. Nothing outside this package imports zenml."""
