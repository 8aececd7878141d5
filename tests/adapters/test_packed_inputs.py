"""Packed inputs: one object for a group, found from anywhere by the database, pruned as a whole, never returned damaged."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from openmlops.adapters import packed_inputs
from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.adapters.input_places import InputPlaces, Place
from openmlops.adapters.input_store import InputStore, sha256_of
from openmlops.adapters.object_store import FolderStore
from openmlops.adapters.packed_inputs import PackedInputs
from openmlops.adapters.schema import INPUT_PLACE
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


def opened(database: str, tmp_path: Path, home: str = "home") -> PackedInputs:
    """As a machine with that home has them."""
    return PackedInputs(FolderStore(tmp_path / "objects"), InputPlaces(connect(database)), InputStore(tmp_path / home))


@pytest.fixture
def inputs(database: str, tmp_path: Path) -> PackedInputs:
    return opened(database, tmp_path)


def logged(
    log: InferenceLog, inputs: PackedInputs, contents: Sequence[bytes], at: datetime, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Store and log inputs as the server does at that time, their SHA-256."""
    names = [sha256_of(content) for content in contents]
    with monkeypatch.context() as then:
        then.setattr(packed_inputs, "datetime", type("Then", (datetime,), {"now": lambda zone: at}))
        places = inputs.put_all(contents, names)
    log.write([entries(names, places, at)])
    return names


def entries(names: Sequence[str], places: Sequence[Place | None], at: datetime) -> Entries:
    n = len(names)
    ids = [f"{at:%m%d%H%M}-{name[:12]}-{row}" for row, name in enumerate(names)]
    return Entries(
        model="m",
        version=1,
        layout=Layout(("a",), ("x", "y")),
        ids=ids,
        at=[at] * n,
        input_sha256=names,
        features=np.zeros((n, 1), np.float32),
        predictions=[b"\0" * 8] * n,
        latency_ms=[1.0] * n,
        places=places,
    )


def objects(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "objects").rglob("*") if path.is_file())


def test_a_group_is_one_object_and_every_machine_reads_its_images(
    inputs: PackedInputs, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [b"first", b"second image", b"first", b"third"]
    names = logged(InferenceLog(connect(database)), inputs, contents, NOON, monkeypatch)
    (pack,) = objects(tmp_path)
    assert pack.read_bytes() == b"firstsecond imagethird"
    assert pack.parent.name == "20260601"
    other = opened(database, tmp_path, "other")
    assert [other.read(name) for name in names] == contents
    assert other.held([*names, "0" * 64]) == frozenset(names)
    assert not other.holds("0" * 64)
    assert other.newest() == NOON
    with pytest.raises(DataError, match="not stored, or no longer"):
        other.read("0" * 64)


def test_what_a_home_stored_as_files_before_is_still_read_and_pruned(inputs: PackedInputs, tmp_path: Path) -> None:
    files = InputStore(tmp_path / "home")
    files.put(b"before", name := sha256_of(b"before"))
    assert inputs.read(name) == b"before"
    assert inputs.held([name]) == {name}
    assert inputs.size().files == 1
    assert inputs.prune(0, 0.0).removed == 1


def test_packs_beyond_the_limits_go_as_a_whole_but_for_what_is_needed(
    inputs: PackedInputs, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = InferenceLog(connect(database))
    named = {
        days: logged(log, inputs, [b"%d first" % days, b"%d second" % days], NOON - days * DAY, monkeypatch)
        for days in (40, 35, 10, 1)
    }
    oldest = (NOON - 30 * DAY).timestamp()
    needed = frozenset([named[35][1]])
    dry = inputs.prune(None, oldest, dry=True, needed=needed)
    assert len(objects(tmp_path)) == 4
    done = inputs.prune(None, oldest, needed=needed)
    assert dry == done
    assert (done.removed, done.files) == (2, 6)
    assert done.oldest == (NOON - 35 * DAY).timestamp()
    assert len(objects(tmp_path)) == 3
    assert not inputs.holds(named[40][0])
    assert [inputs.read(name) for name in named[35]] == [b"35 first", b"35 second"], "a pack stays or goes as a whole"
    assert inputs.prune(None, oldest).removed == 2, "the request is closed"
    done = inputs.prune(20, 0.0)
    assert (done.removed, done.bytes) == (2, len(b"1 first1 second"))
    assert inputs.held([*named[10], *named[1]]) == frozenset(named[1])


def test_an_image_that_is_sent_again_outlives_its_first_pack(
    inputs: PackedInputs, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = InferenceLog(connect(database))
    (name,) = logged(log, inputs, [b"again"], NOON - 40 * DAY, monkeypatch)
    logged(log, inputs, [b"again"], NOON, monkeypatch)
    assert inputs.prune(None, (NOON - 30 * DAY).timestamp()).removed == 1
    assert inputs.read(name) == b"again"


def test_a_pruning_that_was_killed_between_object_and_rows_is_finished_by_the_next(
    inputs: PackedInputs, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = logged(InferenceLog(connect(database)), inputs, [b"image"], NOON - 40 * DAY, monkeypatch)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(InputPlaces, "forget", _killed)
        inputs.prune(None, NOON.timestamp())
    assert objects(tmp_path) == []
    with pytest.raises(DataError, match="not stored, or no longer"):
        inputs.read(name)
    assert inputs.prune(None, NOON.timestamp()).removed == 1
    assert inputs.size().files == 0


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", [b"", b"firs", b"fIrstsecond"], ids=["empty", "cut", "another byte"])
def test_a_damaged_pack_is_named(
    damage: bytes, inputs: PackedInputs, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = logged(InferenceLog(connect(database)), inputs, [b"first", b"second"], NOON, monkeypatch)
    (pack,) = objects(tmp_path)
    pack.write_bytes(damage)
    with pytest.raises(DataCorrupt, match=rf"The pack file://.*{pack.name} is damaged: the input {names[0]} in it"):
        inputs.read(names[0])
    if damage.endswith(b"second"):
        assert inputs.read(names[1]) == b"second"


def test_a_store_that_cannot_take_a_pack_says_so_before_anything_is_logged(inputs: PackedInputs, tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("no folder")
    with pytest.raises(ServiceUnavailable, match="cannot be stored"):
        inputs.put_all([b"image"], [sha256_of(b"image")])
    with pytest.raises(ServiceUnavailable, match="cannot be stored"):
        inputs.probe()


def test_places_move_with_the_entries_of_a_spool_and_may_move_twice(
    inputs: PackedInputs, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, central = InferenceLog(connect(f"sqlite:///{tmp_path}/spool.db")), InferenceLog(connect(database))
    names = logged(spool, inputs, [b"first", b"second"], NOON, monkeypatch)
    assert not inputs.holds(names[0]), "the database does not know them yet"
    waiting = spool.oldest(1000)
    central.write_missing([each.without(frozenset(each.ids[1:])) for each in waiting])
    central.write_missing(waiting)
    spool.remove(waiting)
    assert [inputs.read(name) for name in names] == [b"first", b"second"]
    with connect(f"sqlite:///{tmp_path}/spool.db").connect() as connection:
        assert connection.execute(select(INPUT_PLACE)).all() == []


def test_entries_without_some_keep_the_places_of_the_others() -> None:
    places = [Place("p", 0, 1), None, Place("p", 1, 1)]
    found = entries(["a" * 64, "b" * 64, "c" * 64], places, NOON)
    assert found.without({found.ids[0]}).places == [None, Place("p", 1, 1)]
    assert replace(found, places=()).without({found.ids[0]}).places == ()


def test_many_writers_at_once_lose_no_place(inputs: PackedInputs, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = InferenceLog(connect(database))
    log.write([entries(["0" * 64], [], NOON)])  # the layout

    def write(number: int) -> list[str]:
        contents = [b"the same", b"image %d" % number]
        names = [sha256_of(content) for content in contents]
        log.write([entries(names, inputs.put_all(contents, names), NOON + timedelta(minutes=number))])
        return names

    with ThreadPoolExecutor(4) as pool:
        named = list(pool.map(write, range(20)))
    assert [inputs.read(names[1]) for names in named] == [b"image %d" % number for number in range(20)]
    assert inputs.read(named[0][0]) == b"the same"
