"""OpenMLOps: the closed loop for computer-vision models. Importing this package switches off the telemetry of libraries that
are imported after it, and does nothing else."""

from openmlops.telemetry import switch_off

__version__ = "0.1.0"

switch_off()
