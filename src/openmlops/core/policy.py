"""The old name of `openmlops.core.monitoring.policy`."""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.core.monitoring.policy")
