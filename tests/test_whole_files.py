"""Every file that the package writes is whole or not there: one package writes files, and it checks what was written."""

import ast
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import openmlops
from openmlops.adapters.input_store import InputStore, sha256_of
from openmlops.errors import ServiceUnavailable, SettingsError
from openmlops.files import copy_file, create_bytes, place_bytes, share_file, write_bytes
from openmlops.learning.checkpoint import Checkpoint
from openmlops.operations.projects.env_file import prepare_compose

PACKAGE = Path(openmlops.__file__).parent
LIMIT = 40_000
TOO_LARGE = b"x" * (LIMIT + 1)

WRITING = {"write_text", "write_bytes", "copyfile", "copy2", "copytree", "move", "mkstemp", "NamedTemporaryFile"}
LIBRARIES = {"savez", "savez_compressed", "save_file", "savefig", "save_html", "save_json", "save_model"}
PLACED = {"replacing", "placing", "replacing_folder"}
ELSEWHERE = {
    ("selftest/faults.py", "damaged_input"): "the damage that is done on purpose",
    ("selftest/faults.py", "hostile_archive"): "an archive that claims what it has not",
    ("selftest/faults.py", "backup_and_restore"): "a backup that is damaged on purpose",
    ("entry.py", "_end"): "a line on standard error",
    ("interruption.py", "end"): "a line on standard error",
    ("operations/monitoring/prediction_export.py", "_write_csv"): "the file that `replacing` places",
    ("temporary.py", "temporary_file"): "the empty file that `replacing` yields",
    ("terminal.py", "_crash_file"): "a report of a crash, in the temporary folder",
    ("adapters/data_versions.py", "_set_aside"): "a move, undone if it fails",
    ("adapters/mlflow_model.py", "write_mlflow_model"): "MLflow's files of an export, sealed by its manifest afterwards",
    ("console/cycles.py", "_start_process"): "the output of a process",
    ("demo/server.py", "serving"): "the output of a process",
    ("operations/data/download.py", "_append"): "a part that the next attempt goes on with, placed by its checksum",
    ("operations/projects/env_file.py", "_complete"): "lines appended to the user's file, all or none",
    ("operations/projects/backup.py", "_write"): "the temporary file that `back_up` places",
    ("pipelines/zenml_stack.py", "_round_trip"): "a probe of the artifact store, removed at once",
}


@contextmanager
def short_writes() -> Iterator[None]:
    """No file of this process may become larger than LIMIT: a write stops there, as it does where a disk fills."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: place_bytes(path, TOO_LARGE),
        lambda path: write_bytes(path, TOO_LARGE),
        lambda path: create_bytes(path, TOO_LARGE, 0o600),
        lambda path: copy_file(path.parent.parent / "source", path),
        lambda path: share_file(path.parent.parent / "source", path),
    ],
    ids=["place_bytes", "write_bytes", "create_bytes", "copy_file", "share_file"],
)
def test_a_write_that_stops_early_fails_and_leaves_nothing(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "source").write_bytes(TOO_LARGE)
    (folder := tmp_path / "folder").mkdir()
    with short_writes(), pytest.raises(OSError, match="too large"):
        write(folder / "file")
    assert list(folder.iterdir()) == []


def test_an_input_that_is_stored_in_part_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = InputStore(tmp_path / "inputs")
    with short_writes(), pytest.raises(ServiceUnavailable, match="too large"):
        store.put(TOO_LARGE, sha256_of(TOO_LARGE))
    assert [path for path in (tmp_path / "inputs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damaged", [b"", TOO_LARGE[:-1], b"y" + TOO_LARGE[1:]], ids=["empty", "short", "another byte"])
def test_a_damaged_input_is_repaired_when_it_is_sent_again(tmp_path: Path, damaged: bytes) -> None:
    store, name = InputStore(tmp_path), sha256_of(TOO_LARGE)
    store.put(TOO_LARGE, name)
    store.path(name).write_bytes(damaged)
    store.put(TOO_LARGE, name)
    assert store.read(name) == TOO_LARGE


def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before_it(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "k")
    checkpoint.save({"epoch": 1})
    with short_writes(), pytest.raises(OSError, match="too large"):
        checkpoint.save({"epoch": 2, "more": np.zeros(LIMIT).tolist()})
    assert checkpoint.load() == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_variables_that_cannot_all_be_appended_change_nothing(tmp_path: Path) -> None:
    before = b"A=" + b"x" * (LIMIT - 100) + b"\n"
    (tmp_path / ".env").write_bytes(before)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "compose.yml").touch()
    with short_writes(), pytest.raises(SettingsError, match="too large"):
        prepare_compose(tmp_path)
    assert (tmp_path / ".env").read_bytes() == before


def test_nothing_but_one_package_writes_files() -> None:
    modules = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE / "files"]
    found = {place for path in modules for place in _writers(path)}
    assert found == set(ELSEWHERE)


def _writers(path: Path) -> Iterator[tuple[str, str]]:
    """Functions of a module that write a file where it may be found half-written."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            safe = _safe(function)
            if any(_writes(call) and not safe & _names(call) for call in ast.walk(function) if isinstance(call, ast.Call)):
                yield path.relative_to(PACKAGE).as_posix(), function.name


def _safe(function: ast.AST) -> set[str]:
    """Names of a function for temporary files that are placed when they are whole, and for buffers in memory."""
    found: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and "IO()" in ast.unparse(node.value):
            found |= {name for target in node.targets for name in _names(target)}
        opened = node.context_expr if isinstance(node, ast.withitem) and node.optional_vars else None
        if isinstance(opened, ast.Call) and (_called(opened) in PLACED or _names(opened) & found):
            found |= _names(node.optional_vars)
    return found


def _writes(call: ast.Call) -> bool:
    name = _called(call)
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    module = "" if owner is None else getattr(owner, "id", "of an attribute")
    if name == "open":
        modes = {str(node.value)[:1] for node in ast.walk(call) if isinstance(node, ast.Constant)}
        flags = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
        return bool(modes & {"w", "a", "x"} or flags & {"O_WRONLY", "O_RDWR", "O_CREAT"})
    if name in ("write_text", "write_bytes"):
        return owner is not None
    if name == "save":
        return module in ("torch", "np", "onnx") or any(isinstance(each, ast.Constant) for each in call.args[1:])
    in_shell = name in WRITING and module in ("shutil", "tempfile", "")
    return in_shell or name in LIBRARIES or (module, name) in {("os", "write"), ("shutil", "copy")}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('a')",
        "open(path, 'w')",
        "path.open('ab')",
        "os.open(path, os.O_WRONLY)",
        "np.save(path, a)",
        "image.save(path, 'PNG')",
    ],
)
def test_the_search_finds_writers(line: str) -> None:
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _writes(call)
