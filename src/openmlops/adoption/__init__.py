"""What can be seen of the fourteen defects in somebody's project, by reading it. Nothing of it is imported or run."""
