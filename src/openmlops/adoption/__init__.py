"""Static analysis of another project for fourteen common MLOps defects. Nothing of the project is imported or run."""
