"""The old name of `openmlops.operations.monitoring.frames`."""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.operations.monitoring.frames")
