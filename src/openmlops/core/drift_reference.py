"""The old name of `openmlops.core.monitoring.drift_reference`."""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.core.monitoring.drift_reference")
