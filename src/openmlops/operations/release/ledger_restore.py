"""What to do about a ledger that was lost or is an old one: get its rows back, merge both, or start anew on purpose.

Not here: noticing it (`witnesses`).
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from openmlops.adapters.database import connect_without_migrating
from openmlops.adapters.last_champion import FOLDER, LastChampion
from openmlops.adapters.ledger import Ledger, Row, chain
from openmlops.core.types import Value
from openmlops.errors import DataError, OpenMLOpsError, SettingsError, one_line
from openmlops.files import write_text
from openmlops.operations.release.acts import account
from openmlops.operations.release.aliases import repair
from openmlops.operations.release.witnesses import behind, copied_rows, seal, set_copy_aside, testimony
from openmlops.operations.workspace import Workspace


class Rebuilt(Value):
    """A ledger after it was restored, or declared to be whole.

    `restored`: rows that it had lost. `merged`: own rows of a ledger that had lost others, appended after them as records.
    `kept`: where the rows of before are, empty if nothing was replaced.
    """

    model: str
    rows: int
    champion: int | None
    restored: int
    merged: int
    kept: str


def restore(workspace: Workspace, model: str, now: datetime, source: Path | None = None) -> Rebuilt:
    """Get lost rows back from the object store's copy, or from the database file `source`; rows that were appended without
    them are merged. Raises DataError if there is no copy, LedgerCorrupt if it is broken, or still behind what others know.
    """
    before = workspace.ledger.rows(model)
    known = _rows_of(source, model) if source else copied_rows(workspace, model)
    if not known:
        where = str(source) if source else "The object store"
        remedy = "Name a database file with --from, restore a backup, or go on without with --anew --reason WHY"
        raise DataError(f"{where} has no rows of the ledger of {model}", remedy)
    chain(model, known)
    if before[: len(known)] == known:
        found = workspace.ledger.history(model)
        kept = ""
    else:
        kept = str(_keep(workspace, model, before, now)) if before else ""
        found = workspace.ledger.rebuild(model, known, f"Merged by {account()} into the ledger that {source or 'others'} had")
    if (still := testimony(workspace, model)).against:
        raise behind(still)
    _show(workspace, model)
    hashes = {row["hash"] for row in before}
    restored = sum(row["hash"] not in hashes for row in known)
    return Rebuilt(
        model=model,
        rows=len(found),
        champion=found[-1].champion,
        restored=restored,
        merged=len(found) - max(len(known), len(before) if not kept else 0),
        kept=kept,
    )


def begin_anew(workspace: Workspace, model: str, reason: str, now: datetime) -> Rebuilt:
    """Declare that the rows that are here are the ledger, on purpose. What others know is kept under other names.

    Raises SettingsError without a reason, LedgerCorrupt if the rows are no chain.
    """
    why = one_line(reason)
    if not why:
        raise SettingsError(f"The ledger of {model} is to start anew without a reason", "Pass --anew with --reason WHY")
    entries = workspace.ledger.history(model)
    told = {"at": now.isoformat(), "by": account(), "reason": why, "testimony": testimony(workspace, model).model_dump()}
    kept = write_text(_aside(workspace, model, now, "json"), json.dumps(told, indent=2))
    with suppress(DataError):  # damaged
        set_copy_aside(workspace, model, f"before-{_stamp(now)}")
    workspace.ledger.begin_anew(model, now)
    LastChampion(workspace.home / FOLDER, model).forget()
    _show(workspace, model)
    champion = entries[-1].champion if entries else None
    return Rebuilt(model=model, rows=len(entries), champion=champion, restored=0, merged=0, kept=str(kept))


def _show(workspace: Workspace, model: str) -> None:
    """Bring MLflow's alias and the witnesses up to date."""
    seal(workspace, model)
    repair(workspace, model)


def _rows_of(path: Path, model: str) -> tuple[Row, ...]:
    """The rows of a database file. Raises DataError."""
    if not path.is_file():
        raise DataError(f"There is no file {path}", "Name a database of OpenMLOps, such as one under OPENMLOPS_HOME/replaced")
    engine = connect_without_migrating(f"sqlite:///{path.absolute()}")
    try:
        return Ledger(engine).rows(model)
    except Exception as error:
        why = error.problem if isinstance(error, OpenMLOpsError) else type(error).__name__
        raise DataError(f"{path} is not a database of OpenMLOps ({why})", "Name another file") from error
    finally:
        engine.dispose()


def _keep(workspace: Workspace, model: str, rows: tuple[Row, ...], now: datetime) -> Path:
    return write_text(_aside(workspace, model, now, "jsonl"), "".join(f"{json.dumps(row)}\n" for row in rows))


def _aside(workspace: Workspace, model: str, now: datetime, suffix: str) -> Path:
    return workspace.home / "replaced" / f"ledger-{model}-{_stamp(now)}.{suffix}"


def _stamp(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}"
