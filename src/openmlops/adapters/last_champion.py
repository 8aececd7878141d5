"""The last deployed version in a file: a server can start from it during a database outage, and it is a witness of the ledger.

Its files are verified against the entry's SHA-256 as usual, and the ledger is followed as soon as it is reachable.
"""

import logging
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from openmlops.core.types import LedgerEntry
from openmlops.files import write_bytes

FOLDER = "spool"
"""of a home, in which the servers of all models keep theirs"""

log = logging.getLogger(__name__)


class LastChampion:
    """The ledger entry of the version of `model` that was deployed last in this home folder."""

    def __init__(self, folder: Path, model: str) -> None:
        self._path = folder / f"{quote(model, safe='')}.json"

    def keep(self, entry: LedgerEntry) -> None:
        """Write the entry; a failure is only logged."""
        try:
            write_bytes(self._path, entry.model_dump_json().encode())
        except OSError as error:
            log.warning("%s cannot be written (%s): a restart will require the database", self._path, error.strerror)

    def entry(self) -> LedgerEntry | None:
        """The stored entry; None if missing or unreadable."""
        try:
            return LedgerEntry.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None

    def forget(self) -> None:
        """Delete the entry."""
        self._path.unlink(missing_ok=True)
