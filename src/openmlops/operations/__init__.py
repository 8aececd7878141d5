"""What the steps and the commands do, as plain functions of a `Workspace`: gather, decide, apply. No zenml here."""
