"""Statistics of predictions over time: rate and latency, of the latest ones and of those that are totals now."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import quantiles

from openmlops.adapters.activity import LoggedPrediction
from openmlops.adapters.inference_hours import Hour, percentile
from openmlops.core.types import Value

LATEST = 5000
"""number of latest predictions that are read"""
MAX_BINS = 60
WIDTHS = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 43_200, 86_400)
"""possible bin widths in seconds"""
DAY = 86_400


class Bin(Value):
    """`n` predictions in the `seconds` from `at` on, with latency percentiles in milliseconds, 0 in an empty bin."""

    at: datetime
    seconds: float
    n: int
    p50: float = 0.0
    p99: float = 0.0

    @property
    def a_minute(self) -> float:
        """Predictions per minute."""
        return 60 * self.n / self.seconds


def binned(found: Sequence[LoggedPrediction]) -> tuple[Bin, ...]:
    """Bin predictions, given oldest first, into at most MAX_BINS bins of equal width, including empty ones."""
    if not found:
        return ()
    first, last = min(a.at for a in found).timestamp(), max(a.at for a in found).timestamp()
    width = next((w for w in WIDTHS if last - first <= w * (MAX_BINS - 1)), math.ceil((last - first) / (MAX_BINS - 1)))
    start = math.floor(first / width) * width
    taken: dict[int, list[float]] = {}
    for each in found:
        taken.setdefault(int((each.at.timestamp() - start) // width), []).append(each.latency_ms)
    count = min(MAX_BINS, int((last - start) // width) + 1)
    return tuple(_bin(start + i * width, width, taken.get(i, [])) for i in range(count))


def daily(hours: Sequence[Hour]) -> tuple[Bin, ...]:
    """Totals of hours as bins of days, of all versions together; days without predictions are left out."""
    counts: Counter = Counter()
    latencies: dict[datetime, Counter] = {}
    for each in hours:
        day = each.at.replace(hour=0)
        counts[day] += each.n
        latencies.setdefault(day, Counter()).update(each.latency)
    return tuple(
        Bin(at=day, seconds=DAY, n=n, p50=percentile(latencies[day], 0.5), p99=percentile(latencies[day], 0.99))
        for day, n in sorted(counts.items())
    )


def percentiles(latencies: Sequence[float]) -> tuple[float, float]:
    """The 50th and 99th percentile of latencies in milliseconds."""
    if len(latencies) < 2:
        return latencies[0], latencies[0]
    cut = quantiles(latencies, n=100, method="inclusive")
    return cut[49], cut[98]


def since(found: Sequence[LoggedPrediction], now: datetime, length: timedelta) -> int:
    """Number of these predictions in the last `length`."""
    return sum(now - each.at <= length for each in found)


def _bin(start: float, width: float, latencies: list[float]) -> Bin:
    at = datetime.fromtimestamp(start, UTC)
    if not latencies:
        return Bin(at=at, seconds=width, n=0)
    half, most = percentiles(latencies)
    return Bin(at=at, seconds=width, n=len(latencies), p50=half, p99=most)
