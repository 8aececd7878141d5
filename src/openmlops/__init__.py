"""OpenMLOps: the closed loop for computer-vision models. Importing this package does nothing else."""

__version__ = "0.1.0"
