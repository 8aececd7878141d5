"""Input images in the object store, packed: one object for each group of predictions, not one for each image.

A pack is the images one after the other; where each lies the database knows (input_places.py), in the rows that are committed
after the pack was stored. So whoever reaches database and object store reads the images, on any machine. All images of a pack
were sent at one time, which its name says: it expires as a whole. An image that is sent again is in a newer pack too.

What is not here: images as files of one machine (input_store.py). Those that a home has from before are still read and pruned.
"""

import secrets
from collections.abc import Collection, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path

from openmlops.adapters.input_places import InputPlaces, Pack, Place
from openmlops.adapters.input_store import KEEP_SHARE, PROBE_BYTES, InputStore, Pruned, not_stored, sha256_of
from openmlops.adapters.object_store import ObjectStore
from openmlops.errors import DataCorrupt, DataError

PREFIX = "inputs"
"""what the keys of packs begin with: inputs/DAY/NAME"""
_TIME = "%Y%m%dT%H%M%S%f"
_TIME_CHARACTERS = 21


class PackedInputs:
    """Inputs in `store`, whose places `places` knows, and those in `files`, which this home stored before. Safe to share
    between threads and processes."""

    groups = True
    """whether the inputs of several batches are better stored at once"""

    def __init__(self, store: ObjectStore, places: InputPlaces, files: InputStore) -> None:
        self._store, self._places, self._files = store, places, files

    @property
    def folder(self) -> Path:
        """A folder for notes."""
        return self._files.folder

    def make(self) -> None:
        """Make the folder. The bucket is made with the first pack: the store may be away when a server starts."""
        self._files.make()

    def put_all(self, contents: Sequence[bytes], names: Sequence[str]) -> list[Place | None]:
        """Store inputs in one pack, by their SHA-256; their places, which whoever logs them has to note. Raises
        ServiceUnavailable."""
        pack = f"{datetime.now(UTC):{_TIME}}-{secrets.token_hex(8)}"
        parts, places = {}, {}
        start = 0
        for name, content in zip(names, contents, strict=True):
            if name not in parts:
                parts[name], places[name] = content, Place(pack, start, len(content))
                start += len(content)
        self._store.put_bytes(_key(pack), b"".join(parts.values()), private=True)
        return [places[name] for name in names]

    def probe(self) -> None:
        """Store an object and delete it again. Raises ServiceUnavailable."""
        key = f"{PREFIX}/probe-{secrets.token_hex(8)}"
        self._store.put_bytes(key, bytes(PROBE_BYTES))
        self._store.delete(key)

    def holds(self, sha256: str) -> bool:
        """Whether an input is stored."""
        return bool(self.held([sha256]))

    def held(self, names: Collection[str]) -> frozenset[str]:
        """Those of the inputs that are stored. Raises ServiceUnavailable."""
        packed = frozenset(self._places.of(names))
        return packed | self._files.held([name for name in names if name not in packed])

    def read(self, sha256: str) -> bytes:
        """The input. Raises DataError if it is not (or no longer) stored, DataCorrupt if its pack is damaged,
        ServiceUnavailable."""
        place = self._places.of([sha256]).get(sha256)
        if place is None:
            return self._files.read(sha256)
        key = _key(place.pack)
        try:
            content = self._store.get_bytes(key, place.start, place.size)
        except DataError:
            raise not_stored(sha256) from None
        if sha256_of(content) != sha256:
            problem = f"The pack {self._store.uri(key)} is damaged: the input {sha256} in it has another content"
            raise DataCorrupt(problem, "Restore the object, or delete it")
        return content

    def newest(self) -> datetime | None:
        """When an input was last sent; None if there is none."""
        packed, file = self._places.newest(), self._files.newest()
        return max(filter(None, (_time(packed) if packed else None, file)), default=None)

    def size(self) -> Pruned:
        """What is stored now."""
        return self.prune(None, 0.0, dry=True)

    def prune(self, max_bytes: float | None, oldest: float, dry: bool = False, needed: Set[str] = frozenset()) -> Pruned:
        """Delete packs made before `oldest` (seconds since the epoch) and, above `max_bytes`, the oldest ones, but for those
        with one of the inputs `needed`. With `dry` nothing is deleted.

        The objects go first: a place without an object is deleted by the next pruning.
        """
        files = self._files.prune(max_bytes, oldest, dry, needed)
        packs, stay = self._places.packs(), {place.pack for place in self._places.of(needed).values()}
        total = before = sum(pack.bytes for pack in packs)
        room = None if max_bytes is None else max(0.0, max_bytes - files.bytes)
        budget = total if room is None or total <= room else KEEP_SHARE * room
        gone: list[Pack] = []
        for pack in packs:
            if _time(pack.name).timestamp() >= oldest and total <= budget:
                break
            if pack.name not in stay:
                gone.append(pack)
                total -= pack.bytes
        if gone and not dry:
            for pack in gone:
                self._store.delete(_key(pack.name))
            self._places.forget([pack.name for pack in gone])
        removed, names = sum(pack.images for pack in gone), {pack.name for pack in gone}
        kept = [pack for pack in packs if pack.name not in names]
        first = min(filter(None, (_time(kept[0].name).timestamp() if kept else 0.0, files.oldest)), default=0.0)
        return Pruned(
            removed=files.removed + removed,
            files=files.files + sum(pack.images for pack in kept),
            bytes=files.bytes + total,
            removed_bytes=files.removed_bytes + before - total,
            oldest=first,
        )


def _key(pack: str) -> str:
    return f"{PREFIX}/{pack[:8]}/{pack}"


def _time(pack: str) -> datetime:
    """When a pack was made, by the clock of the server that made it."""
    try:
        return datetime.strptime(pack[:_TIME_CHARACTERS], _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise DataError(f"'{pack[:80]}' does not name a pack of inputs", "Delete its rows in `input_place`") from None
