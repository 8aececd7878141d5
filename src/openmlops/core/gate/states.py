"""How a version stands, by the ledger: one vocabulary for the console, `openmlops models` and MLflow.

What is not here: what was deleted of a version (`operations.release.aliases.what_is_gone`).
"""

from collections.abc import Sequence

from openmlops.core.types import LedgerEntry

CHAMPION, FORMER, NOT_JUDGED = "champion", "former champion", "not judged"
REFUSED = {"reject": "rejected", "inconclusive": "inconclusive"}
"""outcome of a verdict that did not promote -> how its version stands"""


def state_of(entries: Sequence[LedgerEntry], version: int) -> str:
    """The state of a version in its model's ledger, oldest entry first.

    - `champion`, or `champion, forced`: in production, by the gate or against it
    - `former champion`: the gate promoted it, and another version is in production now
    - `rejected` or `inconclusive`: the gate's last verdict; with `, forced once` if it was in production against it
    - `not judged`: the gate never compared it
    """
    own = [entry for entry in entries if entry.version == version and entry.verdict]
    promoted = [entry for entry in own if entry.kind == "promote"]
    is_in_production = bool(entries) and entries[-1].champion == version
    if is_in_production:
        return f"{CHAMPION}, forced" if promoted and _is_forced(promoted[-1]) else CHAMPION
    if any(not _is_forced(entry) for entry in promoted):
        return FORMER
    if not own:
        return NOT_JUDGED
    verdict = own[-1].verdict
    refused = REFUSED.get(verdict.outcome, FORMER) if verdict else NOT_JUDGED
    return f"{refused}, forced once" if promoted else refused


def _is_forced(entry: LedgerEntry) -> bool:
    return entry.verdict is not None and entry.verdict.outcome != "promote"
