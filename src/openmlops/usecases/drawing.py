"""Random integers for generated data sets: the same on every machine and under every version of numpy.

What is not here: what is generated from them (the `sample` of each use case).
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Draw:
    """Integers from the raw stream of PCG64, which numpy guarantees to be stable (unlike its distributions)."""

    def __init__(self, seed: int) -> None:
        self._stream = np.random.PCG64(seed)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        """int64 from `low` to `high` - 1."""
        raw = self._stream.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return (raw % np.uint64(high - low)).astype(np.int64).reshape(shape) + low

    def permutation(self, n: int) -> np.ndarray:
        """The numbers 0 to `n` - 1 in random order, int64."""
        return np.argsort(self._stream.random_raw(n), kind="stable")

    def number(self, low: int, high: int) -> int:
        """One number from `low` to `high` - 1."""
        return (int(self._stream.random_raw()) >> 11) % (high - low) + low

    def chance(self, percent: int) -> bool:
        """True with a probability of `percent` %."""
        return self.number(0, 100) < percent

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of `choices`, with equal probability."""
        return choices[self.number(0, len(choices))]
