"""The page of many models: one row each, those in trouble first."""

from datetime import UTC, datetime
from typing import NamedTuple

from openmlops.console import traffic
from openmlops.console.decision_status import outcome_text
from openmlops.console.model_state import read
from openmlops.console.quality import Quality, quality
from openmlops.console.sections import RECENT, champion_figures
from openmlops.console.services import Console
from openmlops.errors import OpenMLOpsError

TROUBLES = ("bad", "unknown", "good")
"""the states of a row, the worst first; they are the marks of `macros.html`"""


class Row(NamedTuple):
    """One model. `state` is one of TROUBLES, `says` why in a few words; `decided` is the action of an open decision."""

    model: str
    state: str
    says: str
    champion: int | None = None
    since: datetime | None = None
    quality: Quality | None = None
    recent: int = 0
    last: datetime | None = None
    decided: str = ""


def rows(console: Console, models: tuple[str, ...]) -> list[Row]:
    """The rows, by trouble, then by traffic, then by name. A model that cannot be read says why."""
    console.registry_cache.ask(models)
    found = [_row(console, model) for model in models]
    return sorted(found, key=lambda row: (TROUBLES.index(row.state), -row.recent, row.model))


def _row(console: Console, model: str) -> Row:
    try:
        state = read(console.workspace, model)
        at = datetime.now(UTC)
        known = quality(console, state, champion_figures(console, state))
        logged = console.workspace.activity.latest(model, traffic.LATEST)
    except OpenMLOpsError as error:
        return Row(model, "bad", str(error))
    kind, says = _trouble(state.champion, state.is_alarmed, known, state.latest is not None)
    decided = state.records[-1] if state.records else None
    is_open = decided is not None and not outcome_text(decided) and decided.action in ("retrain", "roll_back", "collect_labels")
    return Row(
        model=model,
        state=kind,
        says=says,
        champion=state.champion,
        since=state.since,
        quality=known,
        recent=traffic.since(logged, at, RECENT),
        last=logged[-1].at if logged else None,
        decided=decided.action if is_open and decided else "",
    )


def _trouble(champion: int | None, is_alarmed: bool, known: Quality, is_evaluated: bool) -> tuple[str, str]:
    if champion is None:
        return "unknown", "No version in production"
    if is_alarmed and known.is_low:
        return "bad", "Drift, and worse than on its test"
    if is_alarmed:
        return "bad", "Drift"
    if known.is_low:
        return "bad", "Worse in production than on its test"
    return ("good", "No alarm") if is_evaluated else ("unknown", "Not evaluated")
