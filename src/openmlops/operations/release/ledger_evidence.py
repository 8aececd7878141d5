"""Evidence that a ledger is what it was: its signed heads, and an export that others verify without OpenMLOps.

Whoever can write the database can rewrite the whole chain, but not sign it with a key that is elsewhere. After each row, its
head is signed and added to a list in the object store. The bytes are described in docs/ledger.md.
Not here: comparing a ledger with what others know of it (`witnesses`).
"""

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from openmlops.adapters.ledger import Row, chain
from openmlops.core.types import LedgerEntry, Value
from openmlops.errors import DataError, LedgerCorrupt
from openmlops.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class SignedHead(Value):
    """A row that was the newest one when it was signed. `key` identifies the public key, `signature` is base64."""

    model: str
    sequence: int
    hash: str
    champion: int | None
    key: str
    signature: str

    @property
    def message(self) -> bytes:
        """The bytes that are signed: model, sequence, hash and champion in the canonical form of rows."""
        return _message(self.model, self.sequence, self.hash, self.champion)


class Evidence(Value):
    """What an export proves. `signed`: rows up to the last one that a verified head covers, 0 without a key or a head."""

    model: str
    rows: int
    champion: int | None
    signed: int
    key: str

    @property
    def says(self) -> str:
        """What is proven and what is not, in sentences."""
        whole = f"{self.rows} rows: each has its hash and continues the one before"
        if not self.key:
            return f"{whole}. Not proven: that nobody who can write the database rewrote them all. Name a public key (--key)"
        if not self.signed:
            return f"{whole}. No head is signed by the key {self.key}: not proven that nobody rewrote them all"
        rest = self.rows - self.signed
        unsigned = "The last row is" if rest == 1 else f"The last {rest} rows are"
        later = f"{unsigned} not signed" if rest else "Rows that were cut off after the last signed one cannot be seen"
        return f"{whole}. Rows 1 to {self.signed} are as they were when the key {self.key} signed them. {later}"


def signing_key(settings: Settings) -> "Ed25519PrivateKey | None":
    """The key of LEDGER_SIGNING_KEY; None if it is not set. Raises SettingsError."""
    if not settings.ledger_signing_key:
        return None
    from openmlops.adapters import ed25519

    return ed25519.private_key(Path(settings.ledger_signing_key).expanduser())


def signed(head: LedgerEntry, key: "Ed25519PrivateKey") -> SignedHead:
    """The signature of a newest row."""
    from openmlops.adapters import ed25519

    made = key.sign(_message(head.model, head.sequence, head.hash, head.champion))
    return SignedHead(
        model=head.model,
        sequence=head.sequence,
        hash=head.hash,
        champion=head.champion,
        key=ed25519.identity(key.public_key()),
        signature=base64.b64encode(made).decode(),
    )


def is_by(head: SignedHead, key: "Ed25519PublicKey") -> bool:
    """Whether the head was signed with the private key of this public one."""
    from openmlops.adapters import ed25519

    try:
        signature = base64.b64decode(head.signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return ed25519.is_signed(head.message, signature, key)


def lines(rows: Sequence[Row], heads: Sequence[SignedHead]) -> str:
    """An export: one JSON object a line, first the rows as they are stored, then the signed heads."""
    found = [*(json.dumps(row) for row in rows), *(head.model_dump_json() for head in heads)]
    return "".join(f"{line}\n" for line in found)


def parsed(text: str, name: str) -> tuple[tuple[Row, ...], tuple[SignedHead, ...]]:
    """The rows and heads of an export. Raises DataError that calls it `name`."""
    rows: list[Row] = []
    heads: list[SignedHead] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found = json.loads(line)
            if "signature" in found:
                heads.append(SignedHead.model_validate(found))
            else:
                rows.append({**found, "hash": found["hash"], "model": found["model"], "sequence": found["sequence"]})
        except (ValueError, TypeError, KeyError, ValidationError) as error:
            remedy = "Export the ledger again with `openmlops ledger export`"
            raise DataError(f"Line {number} of {name} is neither a row of a ledger nor a signed head", remedy) from error
    return tuple(rows), tuple(heads)


def verify(text: str, name: str, key: "Ed25519PublicKey | None") -> Evidence:
    """What an export proves. Raises DataError if it is none, LedgerCorrupt that names the first row that breaks the chain or
    differs from what was signed."""
    rows, heads = parsed(text, name)
    models = {row["model"] for row in rows} | {head.model for head in heads}
    if len(models) != 1:
        problem = f"{name} has rows of {len(models)} models" if models else f"{name} has no row of a ledger"
        raise DataError(problem, "Export the ledger of one model")
    (model,) = models
    entries = chain(model, rows)
    hashes = {entry.sequence: (entry.hash, entry.champion) for entry in entries}
    if key is None:
        return Evidence(model=model, rows=len(entries), champion=entries[-1].champion if entries else None, signed=0, key="")
    from openmlops.adapters import ed25519

    last = 0
    for head in (head for head in heads if is_by(head, key)):
        if hashes.get(head.sequence) != (head.hash, head.champion):
            what = "is missing" if head.sequence not in hashes else "is not the one that was signed"
            remedy = "Somebody changed the ledger after it was signed; restore the database from a backup from before"
            raise LedgerCorrupt(f"The ledger of {model} is broken: row {head.sequence} {what}", remedy)
        last = max(last, head.sequence)
    champion = entries[-1].champion if entries else None
    return Evidence(model=model, rows=len(entries), champion=champion, signed=last, key=ed25519.identity(key))


def _message(model: str, sequence: int, digest: str, champion: int | None) -> bytes:
    content = {"champion": champion, "hash": digest, "model": model, "sequence": sequence}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
