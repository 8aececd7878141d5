"""The gate: its rules, and the paired statistics behind them.

Names of `openmlops.core.gate.rules` can also be imported from here, their old place.
"""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.core.gate.rules")
