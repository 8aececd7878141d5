"""Training: one run, a grid of runs, and reproducing a version from its records."""
