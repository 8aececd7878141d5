"""The tests of security use the small versions of the server's tests and the toy models of promotion's."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "serving")]
