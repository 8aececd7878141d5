"""Predictions older than RETENTION_PREDICTIONS_DAYS become hourly totals, in short transactions beside a server that goes on.

Here: which of them stay. Not here: the totals (`adapters.inference_hours`), and the images (`inputs`).
"""

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any

from sqlalchemy.exc import IntegrityError

from openmlops.adapters.inference_hours import Passed
from openmlops.errors import ServiceRefused, ServiceUnavailable
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.requested import requested_predictions
from openmlops.operations.workspace import Workspace

WINDOW = 5000
"""latest predictions of a champion and of the one before it that stay whatever their age: what the console's charts and the
usual windows of monitoring are made of"""
SEARCHED_DECISIONS = 100
"""latest decisions that are searched for an evaluated window"""
ROW_BYTES = 490
"""size of a logged prediction in the database without features and answer, indexes included (benchmarks/retention.py)"""
FIRST_BATCH, SMALLEST_BATCH, LARGEST_BATCH, DRY_BATCH = 500, 200, 4000, 20_000
"""rows of one transaction; never fewer than the smallest, because on a slow disk the commit alone may take the time"""
LONG_SECONDS, SHORT_SECONDS = 0.1, 0.025
"""a batch that takes longer is followed by one of half the size, one that takes less by a larger one"""
REFRESH_SECONDS = 5.0
"""age at which what stays is looked up again, before the next batch"""
ATTEMPTS = 5
NEVER = "kept for ever: RETENTION_PREDICTIONS_DAYS is 0"

Stretches = dict[tuple[str, int], list[tuple[int, int]]]
"""(model, version) -> sequence numbers from which and up to which its predictions stay"""


def prune_predictions(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Turn old predictions into totals. Safe to kill and to repeat. Raises ServiceUnavailable."""
    days = workspace.settings.retention_predictions_days
    before = limit(now, days)
    if before is None:
        return Pruned(what="predictions", deleted=0, bytes=0, oldest=workspace.inference_log.first(), why=NEVER)
    needed_now = _Needed(workspace)
    size = _row_bytes(workspace)
    retired, labelled, oldest = 0, 0, None
    for passed in _batches(workspace, before, needed_now, dry):
        retired, labelled = retired + passed.retired, labelled + passed.labelled
        oldest = oldest or passed.oldest
    needed = ["the latest windows", *(["open label requests"] if needed_now.requested else ())]
    needed += [f"labels that can still be trained on ({labelled})"] if labelled else []
    why = f"younger than {days:g} days, or of {', '.join(needed)}"
    return Pruned(what="predictions", deleted=retired, bytes=retired * size, oldest=oldest, why=why)


class _Needed:
    """Which predictions stay. Looked up again while a long pruning goes on: a promotion, a rollback or a label request of
    meanwhile makes others stay."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._look()

    def _look(self) -> None:
        self.looked_at = time.monotonic()
        self.stretches, self.requested = _windows(self._workspace), _requested(self._workspace)

    def refresh(self) -> None:
        """Look again if what is known is older than REFRESH_SECONDS."""
        if time.monotonic() - self.looked_at > REFRESH_SECONDS:
            self._look()

    def __call__(self, row: Any) -> bool:
        kept = self.stretches.get((row.model, row.version), ())
        return row.id in self.requested or any(low <= row.sequence <= high for low, high in kept)


def _batches(workspace: Workspace, before: datetime, stays: _Needed, dry: bool) -> Iterator[Passed]:
    """Go through the log from its beginning, until a batch has no old row. Between two batches the database is left to others
    for as long as the first took."""
    last: int | None = 0
    most = DRY_BATCH if dry else FIRST_BATCH
    while last is not None:
        stays.refresh()
        began = time.monotonic()
        passed = _retire(workspace, before, last, most, stays, dry)
        took = time.monotonic() - began
        yield passed
        last = passed.last
        if not dry:
            most = _next_size(most, took)
            time.sleep(took if passed.retired else 0)


def _next_size(most: int, took: float) -> int:
    """The size of the batch after one of `most` rows that took so many seconds."""
    if took > LONG_SECONDS:
        return max(most // 2, min(most, SMALLEST_BATCH))
    return min(2 * most, LARGEST_BATCH) if took < SHORT_SECONDS else most


def _retire(workspace: Workspace, before: datetime, after: int, most: int, stays: Any, dry: bool) -> Passed:
    """One batch, again if somebody labelled one of its predictions meanwhile or the database chose another transaction."""
    for attempt in range(ATTEMPTS):
        try:
            return workspace.inference_hours.retire(before, after, most, stays, workspace.inputs.holds, dry)
        except (IntegrityError, ServiceUnavailable) as error:
            if isinstance(error, ServiceRefused) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(LONG_SECONDS * (attempt + 1))
    raise AssertionError("unreachable")


def _windows(workspace: Workspace) -> Stretches:
    """What monitoring and the console read of each model: the latest predictions of its champion and of the one before it, to
    which a rollback returns, and the window that was evaluated last."""
    found: Stretches = {}
    for model in workspace.ledger.models():
        records = workspace.decisions.list(model, SEARCHED_DECISIONS)
        for version in workspace.ledger.champions_newest_first(model)[:2]:
            spans = [r.span for r in records if r.version == version and r.span and r.span.source == "log"]
            stretch, last = workspace.inference_log.stretch, spans[-1] if spans else None
            kept = [stretch(model, version, max(WINDOW, last.n if last else 0))]
            kept += [stretch(model, version, last.n, last.until)] if last else []
            found[model, version] = [each for each in kept if each]
    return found


def _requested(workspace: Workspace) -> frozenset[str]:
    """Predictions of open label requests."""
    return frozenset(chain.from_iterable(requested_predictions(workspace.ledger, workspace.decisions).values()))


def _row_bytes(workspace: Workspace) -> int:
    """About the size of a prediction in the database, from the first ones."""
    return ROW_BYTES + workspace.inference_log.payload_bytes()
