"""Where packed inputs lie: for each image its pack in the object store, and its place in that. One row an image and pack.

Written with the predictions, in one transaction, so that no logged prediction names an image of which nobody knows the place.
What is not here: the packs (packed_inputs.py), and the log (inference_log.py).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, insert, select, tuple_

from openmlops.adapters.database import writing
from openmlops.adapters.schema import INPUT_PLACE

AT_ONCE = 300
"""most values of a statement"""


class Place(NamedTuple):
    """`size` bytes of a pack, from `start` on. Names of packs are in the order in which they were made."""

    pack: str
    start: int
    size: int


class Pack(NamedTuple):
    """A pack that is known: how many images it has, and their bytes."""

    name: str
    images: int
    bytes: int


def add(connection: Connection, places: Iterable[tuple[str, Place]]) -> None:
    """Note the places of inputs (SHA-256, place), within a transaction; those that are known already stay."""
    rows = {(sha256, place.pack): {"sha256": sha256, **place._asdict()} for sha256, place in places}
    if not rows:
        return
    known = tuple_(INPUT_PLACE.c.sha256, INPUT_PLACE.c.pack)
    for part in _parts(list(rows)):
        for found in connection.execute(select(INPUT_PLACE.c.sha256, INPUT_PLACE.c.pack).where(known.in_(part))):
            del rows[found.sha256, found.pack]
    if rows:
        connection.execute(insert(INPUT_PLACE), list(rows.values()))


def of(connection: Connection, names: Collection[str]) -> dict[str, Place]:
    """The places of those inputs that are in a pack, the newest where there are several."""
    found: dict[str, Place] = {}
    for part in _parts(list(names)):
        rows = connection.execute(select(INPUT_PLACE).where(INPUT_PLACE.c.sha256.in_(part)).order_by(INPUT_PLACE.c.pack))
        found |= {row.sha256: Place(row.pack, row.start, row.size) for row in rows}
    return found


def forget(connection: Connection, packs: Collection[str]) -> None:
    """Delete the places in packs that are no more."""
    for part in _parts(list(packs)):
        connection.execute(delete(INPUT_PLACE).where(INPUT_PLACE.c.pack.in_(part)))


class InputPlaces:
    """The places that the database of `engine` knows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, names: Collection[str]) -> Mapping[str, Place]:
        """As the function. Raises ServiceUnavailable."""
        with self._engine.connect() as connection:
            return of(connection, names)

    def packs(self) -> tuple[Pack, ...]:
        """The packs, oldest first."""
        size = func.sum(INPUT_PLACE.c.size)
        query = select(INPUT_PLACE.c.pack, func.count(), size).group_by(INPUT_PLACE.c.pack).order_by(INPUT_PLACE.c.pack)
        with self._engine.connect() as connection:
            return tuple(Pack(name, int(images), int(size)) for name, images, size in connection.execute(query))

    def newest(self) -> str:
        """The name of the newest pack; empty if there is none."""
        with self._engine.connect() as connection:
            return connection.scalar(select(func.max(INPUT_PLACE.c.pack))) or ""

    def forget(self, packs: Collection[str]) -> None:
        """As the function. Raises ServiceUnavailable."""
        with writing(self._engine) as connection:
            forget(connection, packs)


def _parts(values: list) -> Iterable[list]:  # type: ignore[type-arg]
    return (values[first : first + AT_ONCE] for first in range(0, len(values), AT_ONCE))
