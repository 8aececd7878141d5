"""The gate: its rules, and the paired statistics behind them.

Names of `openmlops.core.gate.rules` are found here too, where they were before.
"""

from openmlops.renamed import moved

__getattr__ = moved(__name__, "openmlops.core.gate.rules")
