"""Slows down whoever guesses tokens on the login page: after a few wrong ones an address must wait, longer each time."""

from collections.abc import Callable

FREE_TRIES = 5
FORGET_SECONDS = 900.0
"""after which wrong tries are forgotten"""
LONGEST_SECONDS = 60.0
MOST_ADDRESSES = 10_000


class LoginThrottle:
    """Wrong tries by address, in one process. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[int, float]] = {}

    def seconds_to_wait(self, address: str) -> float:
        """How long the address must wait before its next try; 0 if it may try now."""
        count, last = self._wrong.get(address, (0, 0.0))
        if count < FREE_TRIES:
            return 0.0
        pause = min(2.0 ** (count - FREE_TRIES), LONGEST_SECONDS)
        return max(0.0, last + pause - self._clock())

    def was_wrong(self, address: str) -> None:
        """Count a wrong try."""
        now = self._clock()
        self._wrong = {each: seen for each, seen in self._wrong.items() if now - seen[1] < FORGET_SECONDS}
        if len(self._wrong) >= MOST_ADDRESSES:
            del self._wrong[min(self._wrong, key=lambda each: self._wrong[each][1])]
        self._wrong[address] = (self._wrong.get(address, (0, 0.0))[0] + 1, now)

    def was_right(self, address: str) -> None:
        """Forget the wrong tries of the address."""
        self._wrong.pop(address, None)
