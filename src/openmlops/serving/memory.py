"""Which version was in service here last, in a file: so that a server can start while the database that knows it is away.

Only that: its files are verified against the row's SHA-256 like any other's, and the ledger is followed as soon as it answers.
"""

import logging
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from openmlops.core.types import LedgerEntry
from openmlops.files import write_bytes

log = logging.getLogger(__name__)


class LastChampion:
    """The ledger's row of the version of `model` that was taken into service last on this home."""

    def __init__(self, folder: Path, model: str) -> None:
        self._path = folder / f"{quote(model, safe='')}.json"

    def keep(self, entry: LedgerEntry) -> None:
        """Remember; what cannot be written is not worth more than a line in the log."""
        try:
            write_bytes(self._path, entry.model_dump_json().encode())
        except OSError as error:
            log.warning("%s cannot be written (%s): a restart will need the database", self._path, error.strerror)

    def entry(self) -> LedgerEntry | None:
        """What is remembered; None if there is nothing that can be read."""
        try:
            return LedgerEntry.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
