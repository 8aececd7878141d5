"""The faults, one function each: it injects the fault, checks what was promised, and returns what it counted.

What does not hold raises Broken. Everything happens in a folder of its own.
"""

import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from openmlops.adapters.database import BUSY_SECONDS, connect, writing
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.sqlite_file import copy_online
from openmlops.archives import open_tar
from openmlops.errors import DataCorrupt, LedgerBehind, LedgerConflict, LedgerCorrupt, OpenMLOpsError, ServiceUnavailable
from openmlops.files import write_bytes
from openmlops.operations.projects.backup import back_up, verified
from openmlops.operations.projects.restore import restore as restore_backup
from openmlops.operations.release import witnesses
from openmlops.operations.release.ledger_restore import restore as restore_ledger
from openmlops.operations.workspace import Workspace
from openmlops.selftest import children
from openmlops.settings import Settings

KILLS = 3
IDLE = 300
WRITERS = 8
START_SECONDS = 120.0


class Broken(Exception):
    """A promise that was not kept, in a sentence."""


class Fault(NamedTuple):
    """A promise, what is done against it, and the function that does it in an empty folder."""

    promise: str
    fault: str
    run: Callable[[Path], str]


def short_write(folder: Path) -> str:
    """A file that does not fit."""
    said = _child("write_in_part", folder, "file").communicate()[0]
    _require(said.startswith("refused: "), f"a write that stopped early was not refused, but said {said!r}")
    _require(not list(folder.iterdir()), f"it left {[path.name for path in folder.iterdir()]}")
    return f"limit of {children.LIMIT_BYTES:,} bytes: refused, nothing left"


def killed_writer(folder: Path) -> str:
    """kill -9 while a file and a folder are written."""
    with _child("stay_half_way", folder, "model.onnx") as process:
        _first_lines(process, 1)
        process.kill()
    left = len(list(folder.iterdir()))
    write_bytes(folder / "model.onnx", b"whole")
    with children.temporary_folder(folder, "arranged-"):
        pass
    now = sorted(path.name for path in folder.iterdir())
    _require(left == 2 and now == ["model.onnx"], f"{left} leftovers, and then {now}")
    return f"{left} leftovers removed by the next command"


def killed_log(folder: Path) -> str:
    """kill -9 while predictions are committed."""
    acknowledged: list[str] = []
    for kill in range(KILLS):
        with _child("log_predictions", folder, f"kill{kill}") as process:
            acknowledged += _first_lines(process, 50)
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split() if process.stdout else []
    return f"{KILLS} kills: {_kept(folder, acknowledged)}"


def full_disk(folder: Path) -> str:
    """A disk that fills under the log, and has room again."""
    said = _child("log_on_a_disk_that_fills", folder, "full").communicate()[0].split()
    kept = _kept(folder, said)
    names = set(_logged(folder))
    _require(names == set(said), f"{len(names - set(said))} refused predictions are in the log")
    return f"{children.REFUSALS} refused, none of them logged; {kept}"


def taken_away(folder: Path) -> str:
    """The database is moved away under an open log."""
    path, log = folder / "openmlops.db", InferenceLog(connect(f"sqlite:///{folder / 'openmlops.db'}"))
    log.write([children.entries(["before"])])
    path.rename(folder / "elsewhere.db")
    with suppress(ServiceUnavailable):
        log.write([children.entries(["meanwhile"])])
        raise Broken("a prediction was acknowledged into a file that nobody can read")
    (folder / "elsewhere.db").rename(path)
    log.write([children.entries(["after"])])
    _require(sorted(_logged(folder)) == ["after", "before"], f"the log holds {_logged(folder)}")
    return "refused while it was away, accepted again afterwards"


def damaged_input(folder: Path) -> str:
    """An input that is cut, and one with another byte."""
    store, content = InputStore(folder), os.urandom(20_000)
    name = hashlib.sha256(content).hexdigest()
    for damaged in (b"", content[:-1], bytes([content[0] ^ 1]) + content[1:]):
        store.put(content, name)
        store.path(name).write_bytes(damaged)
        store.put(content, name)
        _require(store.read(name) == content, "a damaged input was not repaired")
    return "3 damaged files repaired when they were sent again"


def hostile_archive(folder: Path) -> str:
    """An archive whose header claims 600 MB."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 600 * 10**6
    with (folder / "archive.tar").open("wb") as file:
        file.write(header.tobuf())
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        with suppress(tarfile.ReadError), open_tar(folder / "archive.tar") as archive:
            list(archive)
            raise Broken("the header was believed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    _require(peak < 8 * 2**20, f"reading it took {peak / 2**20:.0f} MiB")
    return f"refused with {peak / 2**20:.1f} MiB of memory"


def writers_at_once(folder: Path) -> str:
    """Eight writers decide on the same row of the ledger."""
    ledgers = [Ledger(connect(f"sqlite:///{folder / 'openmlops.db'}")) for _ in range(WRITERS)]

    def append(ledger: Ledger) -> bool:
        try:
            _append(ledger, 0)
        except LedgerConflict:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(append, ledgers))
    rows = len(ledgers[0].history(children.MODEL))
    _require((sum(won), rows) == (1, 1), f"{sum(won)} writers won, and the ledger has {rows} rows")
    return f"{WRITERS} writers: 1 won, {WRITERS - 1} were told"


def altered_ledger(folder: Path) -> str:
    """Each column of a row is altered in turn, and rows are deleted."""
    url = f"sqlite:///{folder / 'openmlops.db'}"
    for row in range(3):
        _append(Ledger(connect(url)), row)
    columns = ("kind", "version", "champion", "at", "actor", "reasons", "dataset", "model_sha256", "previous", "hash")
    statements = [f"UPDATE ledger SET {column} = '7' WHERE sequence = 2" for column in columns]
    statements += [f"DELETE FROM ledger WHERE sequence = {row}" for row in (1, 2, 3)]
    for number, statement in enumerate(statements):
        copy_online(folder / "openmlops.db", copy := folder / f"{number}.db", BUSY_SECONDS)
        with suppress(LedgerCorrupt):
            with writing(connect(f"sqlite:///{copy}")) as connection:
                connection.exec_driver_sql(statement)
            Ledger(connect(f"sqlite:///{copy}")).history(children.MODEL)
            raise Broken(f"nobody noticed: {statement}")
    return f"{len(statements)} of {len(statements)} alterations noticed"


def lost_ledger(folder: Path) -> str:
    """The database of a ledger is deleted; its rows come back."""
    found = _workspace(folder)
    for row in range(3):
        _append(found.ledger, row)
    witnesses.seal(found, children.MODEL)
    before = found.ledger.rows(children.MODEL)
    found.engine.dispose()
    for path in found.home.glob("openmlops.db*"):
        path.unlink()
    empty = _workspace(folder)
    with suppress(LedgerBehind):
        witnesses.require_whole(empty, children.MODEL)
        raise Broken("an empty ledger was taken for a new one")
    restore_ledger(empty, children.MODEL, datetime.now(UTC))
    _require(empty.ledger.rows(children.MODEL) == before, "the restored rows differ")
    return "noticed; 3 of 3 rows restored"


def backup_and_restore(folder: Path) -> str:
    """A backup is put back after the database was changed; damaged ones are refused."""
    found = _workspace(folder)
    _append(found.ledger, 0)
    made = back_up(found, folder / "project.tar")
    content = (folder / "project.tar").read_bytes()
    _append(found.ledger, 1)
    refused = 0
    for damaged in (content[: len(content) // 2], content[:3000] + bytes([content[3000] ^ 1]) + content[3001:]):
        (folder / "damaged.tar").write_bytes(damaged)
        with suppress(DataCorrupt):
            verified(folder / "damaged.tar")
            raise Broken("a damaged backup was taken for whole")
        refused += 1
    found.engine.dispose()
    done = restore_backup(_workspace(folder), folder / "project.tar", datetime.now(UTC))
    rows = len(_workspace(folder).ledger.history(children.MODEL))
    _require((rows, done.ledger_rows) == (1, 1), f"{rows} rows were restored, {done.ledger_rows} told of")
    return f"{made.files} restored, the row of the replaced database kept; {refused} damaged backups refused"


def idle_connections(folder: Path) -> str:
    """Hundreds of connections that send nothing, or half a header."""
    with _server(folder) as port, _sockets(port) as opened:
        slowest = max(_seconds_of(port) for _ in range(20))
    _require(slowest < 5, f"the health probe took {slowest:.1f} s")
    return f"{len(opened)} idle connections: 20 of 20 probes answered, the slowest in {slowest * 1000:.0f} ms"


FAULTS = (
    Fault("A file is whole or not there", "a write that stops early", short_write),
    Fault("Leftovers of killed commands are removed", "kill -9 while a file and a folder are written", killed_writer),
    Fault("What was acknowledged is in the log", "kill -9 of a process that logs", killed_log),
    Fault("What was refused is not in the log", "a disk that fills", full_disk),
    Fault("Nothing is acknowledged into a lost file", "the database is moved away", taken_away),
    Fault("A damaged input is repaired", "files cut and changed", damaged_input),
    Fault("Archives are not believed", "a header that claims 600 MB", hostile_archive),
    Fault("One of many writers wins", "eight at the same row of the ledger", writers_at_once),
    Fault("The ledger notices alterations", "columns changed, rows deleted", altered_ledger),
    Fault("A lost ledger promotes nothing", "its database deleted", lost_ledger),
    Fault("A backup is whole, or refused", "restored over a newer database; cut and changed", backup_and_restore),
    Fault("Idle connections take nobody's place", f"{IDLE} connections that send nothing or half a header", idle_connections),
)


def _child(name: str, folder: Path, mark: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", children.__name__, name, str(folder), mark]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _first_lines(process: subprocess.Popen[str], count: int) -> list[str]:
    lines = [process.stdout.readline().strip() for _ in range(count)] if process.stdout else []
    _require(all(lines), "the process ended by itself")
    return lines


def _kept(folder: Path, acknowledged: list[str]) -> str:
    lost = set(acknowledged) - set(_logged(folder))
    _require(bool(acknowledged) and not lost, f"{len(lost)} of {len(acknowledged)} acknowledged predictions are lost")
    return f"{len(acknowledged):,} acknowledged, 0 lost"


def _logged(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "openmlops.db")) as connection:
        names = [name for (name,) in connection.execute("SELECT id FROM inference")]
    _require(len(names) == len(set(names)), "a prediction is in the log twice")
    return names


def _append(ledger: Ledger, expected: int) -> None:
    ledger.append(
        model=children.MODEL,
        expected_sequence=expected,
        kind="promote",
        version=expected + 1,
        actor="selftest",
        reasons=("a self-test",),
        dataset="d" * 64,
        model_sha256="a" * 64,
        verdict=None,
        at=datetime.now(UTC),
    )


def _workspace(folder: Path) -> Workspace:
    return Workspace(Settings(openmlops_home=folder / "home", use_case="cifar10", model_name=children.MODEL))


@contextmanager
def _server(folder: Path) -> Iterator[int]:
    """The prediction server of a project without a model, until the block ends; its port."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with _child("serve_no_model", folder, str(port)) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                with suppress(OSError):
                    _seconds_of(port)
                    break
                time.sleep(0.1)
            else:
                raise Broken("the server did not start")
            yield port
        finally:
            process.terminate()


@contextmanager
def _sockets(port: int) -> Iterator[list[socket.socket]]:
    opened = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(IDLE)]
    for number, each in enumerate(opened):
        each.sendall(b"" if number % 2 else b"GET /health/live HTTP/1.1\r\nHo")
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def _seconds_of(port: int) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10) as response:
        _require(response.status == 200, f"the probe got {response.status}")
    return time.perf_counter() - begun


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


EXPECTED = (Broken, OpenMLOpsError, OSError, subprocess.SubprocessError)
"""what a fault that is not borne may raise"""
