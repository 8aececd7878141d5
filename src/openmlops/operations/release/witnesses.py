"""What is known of the ledger outside of its database: a ledger that was lost, or is an old one, is noticed before it is used.

The witnesses: a tag of the model in MLflow, a copy of all rows in the object store, signed heads beside it if there is a key,
and what the server of this home served last. All but the last are written after each row. They may lag behind, by a killed
process or an outage, and never be ahead. Not here: what to do about it (`ledger_restore`), and signatures (`ledger_evidence`).
"""

import json
import re
from contextlib import suppress

from openmlops.adapters.last_champion import FOLDER, LastChampion
from openmlops.adapters.ledger import Row, chain
from openmlops.core.types import LedgerEntry, Value
from openmlops.errors import (
    DataError,
    LedgerBehind,
    LedgerCorrupt,
    ModelNotFound,
    OpenMLOpsError,
    ServiceUnavailable,
    SettingsError,
)
from openmlops.files import sha256_of, write_text
from openmlops.operations.release import ledger_evidence
from openmlops.operations.release.ledger_evidence import SignedHead
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder

TAG = "openmlops.ledger"
MLFLOW, OBJECTS, SIGNED, SERVER = "MLflow's tag", "the object store", "the signed head", "the server of this home"

_TAG = re.compile(r"row (\d{1,9}) ([0-9a-f]{64}) champion (\d{1,9}|none)")


class Witness(Value):
    """What one place knows of a ledger: its newest row there. `says`: how that compares with the ledger itself."""

    place: str
    row: int
    hash: str
    champion: int | None
    says: str
    agrees: bool


class Testimony(Value):
    """A ledger's newest row, and what the witnesses say of it. A witness that cannot be asked, or knows nothing, is absent."""

    model: str
    row: int
    hash: str
    champion: int | None
    witnesses: tuple[Witness, ...]

    @property
    def against(self) -> tuple[Witness, ...]:
        """Those that know rows which the ledger lacks."""
        return tuple(witness for witness in self.witnesses if not witness.agrees)


def require_whole(workspace: Workspace, model: str) -> None:
    """Raise LedgerBehind if somebody knows rows that the ledger lacks. Call it before anything is decided by the ledger.

    Witnesses that lag behind are brought up to date. Raises SettingsError for a signing key that cannot be used.
    """
    ledger_evidence.signing_key(workspace.settings)
    found = testimony(workspace, model)
    if found.against:
        raise behind(found)
    if any(witness.row < found.row for witness in found.witnesses if witness.place != SERVER):
        seal(workspace, model)


def behind(found: Testimony) -> LedgerBehind:
    """The error of a ledger that lacks rows."""
    told = "; ".join(f"{witness.place} knows {_named(witness.row, witness.champion)}" for witness in found.against)
    has = f"ends with {_named(found.row, found.champion)}" if found.row else "is empty"
    get_back = f"`openmlops ledger restore {found.model}` gets them back from the object store"
    if not any(witness.place == OBJECTS for witness in found.against):
        get_back = f"restore the database from a backup, or name a copy: `openmlops ledger restore {found.model} --from FILE`"
    anew = f"`openmlops ledger restore {found.model} --anew --reason WHY` goes on without them"
    problem = f"The ledger of {found.model} {has}, but {told}: rows were lost, or the database is an old one"
    return LedgerBehind(problem, f"Nothing was changed. {get_back[0].upper()}{get_back[1:]}; {anew}")


def testimony(workspace: Workspace, model: str) -> Testimony:
    """Compare the ledger with all that is known of it. Raises LedgerCorrupt, ServiceUnavailable for the database."""
    entries = workspace.ledger.history(model)
    hashes = {entry.sequence: entry.hash for entry in entries}
    found = [witness for ask in (_tag, _copy, _head, _server) if (witness := ask(workspace, model))]
    if not entries and not any(witness.place == MLFLOW for witness in found) and (alias := _alias(workspace, model)):
        found.append(alias)
    told = tuple(_compared(witness, hashes) for witness in found)
    last = entries[-1] if entries else None
    row, digest, champion = (last.sequence, last.hash, last.champion) if last else (0, "", None)
    return Testimony(model=model, row=row, hash=digest, champion=champion, witnesses=told)


def seal(workspace: Workspace, model: str) -> None:
    """Tell the witnesses of the newest row. Raises OpenMLOpsError of the first that cannot be told."""
    while True:
        head = workspace.ledger.head(model)
        told = f"row {head.sequence} {head.hash} champion {head.champion or 'none'}" if head else ""
        _write_copy(workspace, model)
        if head and (key := ledger_evidence.signing_key(workspace.settings)):
            _add_head(workspace, ledger_evidence.signed(head, key))
        workspace.registry.set_tag(model, TAG, told)
        now = workspace.ledger.head(model)
        if (now.hash if now else "") == (head.hash if head else ""):
            return


def is_known_elsewhere(workspace: Workspace, model: str) -> bool:
    """Whether MLflow knows rows that the ledger lacks: its aliases are no longer to be repaired from this ledger then."""
    with suppress(OpenMLOpsError):
        hashes = {entry.sequence: entry.hash for entry in workspace.ledger.history(model)}
        return (tag := _tag(workspace, model)) is not None and not _compared(tag, hashes).agrees
    return False


def copied_rows(workspace: Workspace, model: str) -> tuple[Row, ...]:
    """The rows in the object store, none if it has no copy. Raises DataError, ServiceUnavailable, SettingsError."""
    lines = _read(workspace, _key(model)).splitlines()
    try:
        return tuple(json.loads(line) for line in lines)
    except ValueError as error:
        where = workspace.object_store.uri(_key(model))
        raise DataError(f"{where} is damaged", "Delete it: the next promotion writes it again") from error


def signed_heads(workspace: Workspace, model: str) -> tuple[SignedHead, ...]:
    """The signed heads in the object store, oldest first. Raises DataError, ServiceUnavailable, SettingsError."""
    text = _read(workspace, _heads_key(model))
    return ledger_evidence.parsed(text, workspace.object_store.uri(_heads_key(model)))[1]


def set_copy_aside(workspace: Workspace, model: str, name: str) -> None:
    """Keep the rows and signed heads in the object store under another name; the next head begins a new list."""
    rows, heads = copied_rows(workspace, model), signed_heads(workspace, model)
    if rows or heads:
        _put(workspace, f"ledger/{model}.{name}.jsonl", ledger_evidence.lines(rows, heads))
        workspace.object_store.delete(_heads_key(model))


def _key(model: str) -> str:
    return f"ledger/{model}.jsonl"


def _heads_key(model: str) -> str:
    return f"ledger/{model}.heads.jsonl"


def _read(workspace: Workspace, key: str) -> str:
    """The text of an object; empty if there is none."""
    store = workspace.object_store
    if not store.is_made() or not store.exists(key):
        return ""
    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "ledger-") as scratch:
        return store.get_file(key, scratch / "rows").read_text(errors="replace")


def _add_head(workspace: Workspace, head: SignedHead) -> None:
    known = signed_heads(workspace, head.model)
    if head not in known:
        _put(workspace, _heads_key(head.model), ledger_evidence.lines((), (*known, head)))


def _write_copy(workspace: Workspace, model: str) -> None:
    rows = workspace.ledger.rows(model)
    if rows:
        _put(workspace, _key(model), ledger_evidence.lines(rows, ()))
    elif workspace.object_store.is_made():
        workspace.object_store.delete(_key(model))


def _put(workspace: Workspace, key: str, text: str) -> None:
    workspace.home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(workspace.home, "ledger-") as scratch:
        path = write_text(scratch / "rows", text)
        workspace.object_store.ready()
        workspace.object_store.put_file(key, path, sha256_of(path))


def _tag(workspace: Workspace, model: str) -> Witness | None:
    found = _TAG.fullmatch(workspace.registered.tag(model, TAG))
    if found is None:
        return None
    champion = None if found[3] == "none" else int(found[3])
    return Witness(place=MLFLOW, row=int(found[1]), hash=found[2], champion=champion, says="", agrees=True)


def _copy(workspace: Workspace, model: str) -> Witness | None:
    """None also where the object store cannot be asked: it is away, its settings are wrong, or its copy is damaged."""
    try:
        entries = chain(model, copied_rows(workspace, model))
    except (ServiceUnavailable, DataError, LedgerCorrupt, SettingsError, OSError):
        return None
    return _of(OBJECTS, entries[-1]) if entries else None


def _head(workspace: Workspace, model: str) -> Witness | None:
    """The last head that the key of this project signed; None also where it cannot be asked for, as `_copy`."""
    try:
        key = ledger_evidence.signing_key(workspace.settings)
        heads = [head for head in signed_heads(workspace, model) if key and ledger_evidence.is_by(head, key.public_key())]
    except (ServiceUnavailable, DataError, SettingsError, OSError):
        return None
    if not heads:
        return None
    last = max(heads, key=lambda head: head.sequence)
    return Witness(place=SIGNED, row=last.sequence, hash=last.hash, champion=last.champion, says="", agrees=True)


def _server(workspace: Workspace, model: str) -> Witness | None:
    entry = LastChampion(workspace.home / FOLDER, model).entry()
    anew = workspace.ledger.begun_anew(model)
    return None if entry is None or (anew and entry.at <= anew) else _of(SERVER, entry)


def _alias(workspace: Workspace, model: str) -> Witness | None:
    """What the alias of a release before the tag says, where the ledger is empty."""
    registered = workspace.registered
    with suppress(ModelNotFound):
        champion = registered.alias(model, "champion")
        if champion is not None and registered.version(model, champion).sha256:
            return Witness(place="MLflow's alias champion", row=1, hash="", champion=champion, says="", agrees=True)
    return None


def _of(place: str, entry: LedgerEntry) -> Witness:
    return Witness(place=place, row=entry.sequence, hash=entry.hash, champion=entry.champion, says="", agrees=True)


def _compared(witness: Witness, hashes: dict[int, str]) -> Witness:
    """The witness with what it says of a ledger: sequence -> hash of its rows."""
    if witness.row not in hashes:
        return witness.model_copy(update={"says": f"knows row {witness.row}, which the ledger lacks", "agrees": False})
    if hashes[witness.row] != witness.hash:
        return witness.model_copy(update={"says": f"knows another row {witness.row}", "agrees": False})
    says = "agrees" if witness.row == len(hashes) else f"agrees, up to row {witness.row}"
    return witness.model_copy(update={"says": says})


def _named(row: int, champion: int | None) -> str:
    return f"row {row} ({f'champion: version {champion}' if champion else 'no champion'})"
