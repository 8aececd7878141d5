"""The operations behind pipeline steps and commands, as plain functions of a `Workspace`. Nothing here imports zenml."""
