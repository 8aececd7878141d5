"""Step bodies: open the workspace, call one operation, return its value."""
