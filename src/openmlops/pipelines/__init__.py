"""ZenML pipelines and steps. Only this package imports zenml."""
