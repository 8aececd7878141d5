"""Somebody who can write to a disk or to a database changes what is served or judged: it is refused, in one line.

The ledger is what everything is tied to. That an edited ledger is noticed whatever was edited is claimed in
tests/adapters/test_ledger.py, and that damaged files are in tests/adapters/test_registry.py and tests/serving/test_swaps.py.
"""

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from servers import given, png, running
from starlette.testclient import TestClient
from versions import MODEL, OUTPUTS, World, export, images

import toy_promotion as toy
from mlflow_tables import with_tables
from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.adapters.registry import DATASET_TAG, SHA256_TAG, Registry
from openmlops.core.types import ModelRef
from openmlops.errors import LedgerCorrupt, ModelCorrupt, RegistryError
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.monitoring import windows
from openmlops.operations.release import listing, promotion, scoring
from openmlops.operations.release.aliases import find_version
from openmlops.operations.training import reproduce
from openmlops.operations.workspace import Workspace
from openmlops.serving import fetch
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig

CHAMPION, FORMER, CHALLENGER, OTHER = 2, 1, 3, 4
DATA = "d" * 64


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with four registered versions: 1 was champion, 2 is, 3 and 4 never came to the gate."""
    found = toy.workspace(tmp_path_factory.mktemp("home"))
    toy.splits(found)
    for version in (FORMER, CHAMPION, CHALLENGER, OTHER):
        folder = found.home / "exports" / str(version)
        folder.mkdir(parents=True)
        toy.write_model(folder / "model.onnx", version)
        Manifest.of(folder).write(folder / MANIFEST)
        run_id = found.tracking.start("toy", {}, {})
        found.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, datetime.now(UTC))
        found.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: DATA})
    for version in (FORMER, CHAMPION):
        promotion.decide(found, found.registry.version(toy.NAME, version), toy.splits(found))
    assert found.ledger.champions(toy.NAME) == (FORMER, CHAMPION)
    return found.home


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Workspace:
    """A copy of it, without local copies of files, and without answers that were given before."""
    return toy.workspace(moved(original, tmp_path / "home", "models", "answers", "*.lock"))


def moved(original: Path, home: Path, *without: str) -> Path:
    """A copy of a home in another place, which MLflow's database then names; without the files called so."""
    shutil.copytree(original, home, ignore=shutil.ignore_patterns(*without))
    for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
        statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
        edit(home / "mlflow.db", statement, str(original), str(home))
    return home


def edit(database: Path, statement: str, *values: object) -> None:
    """As somebody does who has the file."""
    connection = sqlite3.connect(database)
    with connection:
        assert connection.execute(statement, values).rowcount >= 1
    connection.close()


def row(workspace: Workspace, version: int, column: str) -> str:
    with sqlite3.connect(workspace.home / "mlflow.db") as connection:
        (found,) = connection.execute(f"SELECT {column} FROM model_versions WHERE version = {version}").fetchone()
    return str(found)


def change(workspace: Workspace, version: int, column: str, value: str) -> None:
    edit(workspace.home / "mlflow.db", f"UPDATE model_versions SET {column} = ? WHERE version = ?", value, version)


def change_tag(workspace: Workspace, version: int, tag: str, value: str) -> None:
    statement = "UPDATE model_version_tags SET value = ? WHERE key = ? AND version = ?"
    edit(workspace.home / "mlflow.db", statement, value, tag, version)


def stored(workspace: Workspace, version: int) -> Path:
    """The folder of a version's files in the artifact store."""
    run, folder = row(workspace, version, "source").removeprefix("runs:/").split("/")
    (found,) = workspace.home.glob(f"mlflow-artifacts/*/{run}/artifacts/{folder}")
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# What somebody does to version `n` of the registry


def another_source(workspace: Workspace, n: int) -> None:
    change(workspace, n, "source", row(workspace, OTHER, "source"))


def a_source_of_his_own(workspace: Workspace, n: int) -> None:
    mine = workspace.home / "mine"
    shutil.copytree(stored(workspace, OTHER), mine)
    change(workspace, n, "source", str(mine))


def another_sha256(workspace: Workspace, n: int) -> None:
    change_tag(workspace, n, SHA256_TAG, workspace.registry.version(toy.NAME, OTHER).sha256)


def no_sha256(workspace: Workspace, n: int) -> None:
    edit(workspace.home / "mlflow.db", "DELETE FROM model_version_tags WHERE key = ? AND version = ?", SHA256_TAG, n)


def another_run(workspace: Workspace, n: int) -> None:
    change(workspace, n, "run_id", row(workspace, OTHER, "run_id"))


def another_data_set(workspace: Workspace, n: int) -> None:
    change_tag(workspace, n, DATASET_TAG, "e" * 64)


def another_version_altogether(workspace: Workspace, n: int) -> None:
    """Source, run and SHA-256 of version 4: the row contradicts nothing but the ledger."""
    another_source(workspace, n)
    another_sha256(workspace, n)
    another_run(workspace, n)


def other_files(workspace: Workspace, n: int) -> None:
    """The files of version 4 in the place of this version's, manifest and all."""
    folder, theirs = stored(workspace, n), stored(workspace, OTHER)
    shutil.rmtree(folder)
    shutil.copytree(theirs, folder)


def a_changed_byte(workspace: Workspace, n: int) -> None:
    flip(stored(workspace, n) / "model.onnx")


EDITS = (
    another_source,
    a_source_of_his_own,
    another_sha256,
    another_run,
    another_data_set,
    another_version_altogether,
)
CHANGES = (*EDITS, other_files, a_changed_byte)
by_name = pytest.mark.parametrize("change_it", CHANGES, ids=lambda change: change.__name__)


def refuses(use: Callable[[], object]) -> str:
    with pytest.raises((RegistryError, ModelCorrupt)) as raised:
        use()
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def evaluate(workspace: Workspace, spec: str) -> object:
    return scoring.evaluate_version(workspace, f"{toy.NAME}{spec}")


def promote(workspace: Workspace, version: int, reason: str | None = None) -> object:
    return promotion.promote(workspace, f"{toy.NAME}/{version}", reason, toy.splits(workspace), force=bool(reason))


@by_name
def test_a_champion_that_somebody_changed_is_neither_evaluated_verified_nor_watched(workspace: Workspace, change_it) -> None:
    change_it(workspace, CHAMPION)
    for spec in ("@champion", f"/{CHAMPION}"):
        refuses(lambda spec=spec: evaluate(workspace, spec))
        refuses(lambda spec=spec: reproduce.verify(workspace, f"{toy.NAME}{spec}"))
    refuses(lambda: workspace.registry.fetch(windows.load_latest_model(workspace)))


@by_name
def test_no_challenger_is_judged_against_a_champion_that_somebody_changed(workspace: Workspace, change_it) -> None:
    change_it(workspace, CHAMPION)
    for reason in (None, "it is urgent"):
        refuses(lambda reason=reason: promote(workspace, CHALLENGER, reason))
    assert (workspace.ledger.champion(toy.NAME), len(workspace.ledger.history(toy.NAME))) == (CHAMPION, 2)


@pytest.mark.parametrize("change_it", EDITS, ids=lambda change: change.__name__)
def test_the_bar_is_not_lowered_by_changing_a_former_champion(workspace: Workspace, change_it) -> None:
    change_it(workspace, FORMER)
    refuses(lambda: promote(workspace, CHALLENGER))
    assert workspace.ledger.champion(toy.NAME) == CHAMPION


@pytest.mark.parametrize("change_it", [another_sha256, another_data_set, another_version_altogether])
def test_nobody_is_rolled_back_to_what_somebody_changed(workspace: Workspace, change_it) -> None:
    change_it(workspace, FORMER)
    refuses(lambda: promotion.rollback(workspace, toy.NAME))
    assert workspace.ledger.champion(toy.NAME) == CHAMPION


@pytest.mark.parametrize(
    "change_it", [another_source, a_source_of_his_own, another_sha256, another_run, other_files, a_changed_byte]
)
def test_a_challenger_that_contradicts_itself_is_not_judged(workspace: Workspace, change_it) -> None:
    """Of a version that never came to the gate the ledger knows nothing yet: its row, its run and its files must agree."""
    change_it(workspace, CHALLENGER)
    refuses(lambda: promote(workspace, CHALLENGER, "it is urgent"))
    assert workspace.ledger.champion(toy.NAME) == CHAMPION


def test_a_deleted_sha256_is_the_ledgers_and_the_files_are_verified_against_it(workspace: Workspace) -> None:
    expected = windows.load_latest_model(workspace)
    no_sha256(workspace, CHAMPION)
    assert windows.load_latest_model(workspace) == expected
    other_files(workspace, CHAMPION)
    refuses(lambda: workspace.registry.fetch(windows.load_latest_model(workspace)))


def test_unchanged_everything_is_used(workspace: Workspace) -> None:
    found = find_version(workspace, f"{toy.NAME}@champion")
    assert found == windows.load_latest_model(workspace)
    assert (workspace.registry.fetch(found) / "model.onnx").is_file()
    promote(workspace, CHALLENGER, "it is urgent")
    assert workspace.ledger.champion(toy.NAME) == CHALLENGER


def rewritten(workspace: Workspace) -> None:
    """The oldest row, with a hash that fits; only the chain tells."""
    from openmlops.adapters.ledger import _hash

    with sqlite3.connect(workspace.home / "openmlops.db") as connection:
        connection.row_factory = sqlite3.Row
        found = dict(connection.execute("SELECT * FROM ledger WHERE sequence = 1").fetchone())
    found["model_sha256"] = "f" * 64
    statement = "UPDATE ledger SET model_sha256 = ?, hash = ? WHERE sequence = 1"
    edit(workspace.home / "openmlops.db", statement, found["model_sha256"], _hash(found))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET model_sha256 = 'f' WHERE sequence = 1",
        "UPDATE ledger SET version = 4, champion = 4 WHERE sequence = 2",
        "DELETE FROM ledger WHERE sequence = 1",
        "DELETE FROM ledger WHERE sequence = 2",
        "UPDATE ledger_head SET hash = 'f'",
        rewritten,
    ],
)
def test_with_an_edited_ledger_nothing_is_evaluated_promoted_or_rolled_back(workspace: Workspace, statement) -> None:
    statement(workspace) if callable(statement) else edit(workspace.home / "openmlops.db", statement)
    uses: tuple[Callable[[], object], ...] = (
        lambda: evaluate(workspace, "@champion"),
        lambda: promote(workspace, CHALLENGER, "it is urgent"),
        lambda: promotion.rollback(workspace, toy.NAME),
        lambda: listing.history(workspace, toy.NAME),
    )
    for use in uses:
        with pytest.raises(LedgerCorrupt, match="The ledger of toy is broken"):
            use()


# The server


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Versions 1 and 2 as the registry keeps them; 1 is champion, neither has a local copy. Do not write to it."""
    world = World(tmp_path_factory.mktemp("sealed") / "home")
    world.home.mkdir()
    uri = f"sqlite:///{with_tables(world.home / 'mlflow.db')}"
    client = connect(uri)
    experiment = client.create_experiment("tests", artifact_location=str(world.home / "artifacts"))
    for version in (1, 2):
        run = client.create_run(experiment).info.run_id
        client.log_metric(run, "test_accuracy", 0.5)
        folder = export(world.home / "exported" / str(version), seed=version)
        Manifest.of(folder).write(folder / MANIFEST)
        found: ModelRef = Registry(uri, world.home / "elsewhere").register(MODEL, run, folder, {DATASET_TAG: DATA})
        world.sha256[version] = found.sha256
    world.promote(1)
    return world


@pytest.fixture
def registered(sealed: World, tmp_path: Path) -> World:
    """A copy of it."""
    world = World(moved(sealed.home, tmp_path / "home"))
    world.sha256.update(sealed.sha256)
    return world


def fetch_here(command: list[str], *, input: str, **how: object) -> None:
    """What the server has done by a process of its own, which imports MLflow, done by this one, which has it already."""
    assert command == [sys.executable, "-m", fetch.__name__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(input))
        try:
            fetch.main()
        except SystemExit as end:
            raise subprocess.CalledProcessError(1, command, stderr=f"{end.code}\n") from None


@contextmanager
def served(world: World) -> Iterator[TestClient]:
    """The server's application in this process. That a server's own process and the one that fetches say the same is claimed
    by `test_a_server_of_its_own_process_says_what_is_refused_by_the_one_that_fetches`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch.subprocess, "run", fetch_here)
        with TestClient(create_app(ServingConfig(**given(world))), base_url="http://127.0.0.1") as client:
            yield client


def served_by(world: World) -> tuple[int, str]:
    """The status of a prediction, and what the server says is wrong."""
    with served(world) as client:
        return told(client)


def told(client: httpx.Client) -> tuple[int, str]:
    problem = client.get("/health/ready").json()["problem"] or ""
    return client.post("/predict", content=png(images(1)[0])).status_code, problem


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE model_versions SET source = (SELECT source FROM model_versions WHERE version = 2) WHERE version = 1",
        "UPDATE model_versions SET run_id = (SELECT run_id FROM model_versions WHERE version = 2) WHERE version = 1",
    ],
)
def test_a_server_does_not_follow_an_edited_registry(registered: World, statement: str) -> None:
    edit(registered.home / "mlflow.db", statement)
    status, problem = served_by(registered)
    assert status == 503
    assert problem.startswith(
        f"{MODEL} version 1 was rejected: The files of {MODEL} version 1 could not be fetched: The registry entry"
    )


def test_a_server_of_its_own_process_says_what_is_refused_by_the_one_that_fetches(registered: World) -> None:
    edit(registered.home / "mlflow.db", "UPDATE model_versions SET source = 'runs:/x/y' WHERE version = 1")
    with running(registered) as server:
        status, problem = told(server.client)
    assert status == 503
    assert "version 1 could not be fetched: The registry entry" in problem
    assert (status, problem) == served_by(registered)


def test_a_server_does_not_believe_the_registrys_tag(registered: World) -> None:
    """It loads what the ledger names by SHA-256, whatever MLflow says that would be."""
    statement = "UPDATE model_version_tags SET value = ? WHERE key = ? AND version = 1"
    edit(registered.home / "mlflow.db", statement, registered.sha256[2], SHA256_TAG)
    status, problem = served_by(registered)
    assert (status, problem) == (200, "")
    assert (registered.home / "models" / registered.sha256[1]).is_dir()
    assert not (registered.home / "models" / registered.sha256[2]).exists()


def test_a_server_does_not_load_files_that_were_swapped_in_the_store(registered: World) -> None:
    ours, theirs = (
        next((registered.home / "artifacts").glob(f"*/artifacts/model-{registered.sha256[n][:12]}")) for n in (1, 2)
    )
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    status, problem = served_by(registered)
    assert status == 503
    assert "manifest.json differs from the registered one" in problem


@pytest.mark.parametrize("swap", ["model.onnx", pytest.param("everything", marks=pytest.mark.slow)])
def test_a_local_copy_that_was_swapped_is_fetched_anew(registered: World, swap: str) -> None:
    served_by(registered)
    copies = registered.home / "models"
    ours = copies / registered.sha256[1]
    theirs = registered.home / "exported" / "2"
    if swap == "everything":
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)
    else:
        shutil.copy(theirs / swap, ours / swap)
    expected = OnnxModel(registered.home / "exported" / "1" / "model.onnx", OUTPUTS, 1).run(images(1))["probabilities"][0]
    with served(registered) as client:
        answer = client.post("/predict", content=png(images(1)[0])).json()
    assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_without_the_store_a_changed_local_copy_is_not_served(registered: World) -> None:
    served_by(registered)
    flip(registered.home / "models" / registered.sha256[1] / "model.onnx")
    shutil.rmtree(registered.home / "artifacts")
    status, problem = served_by(registered)
    assert status == 503
    assert len(problem.splitlines()) == 1


def test_a_server_does_not_start_on_a_ledger_whose_past_was_edited(registered: World) -> None:
    served_by(registered)
    registered.promote(2)
    edit(registered.home / "openmlops.db", "UPDATE ledger SET actor = 'nobody' WHERE sequence = 1")
    status, problem = served_by(registered)
    assert status == 503
    assert "The ledger of pets is broken: row 1" in problem


def test_what_is_refused_is_told_in_json_that_ends(registered: World) -> None:
    edit(registered.home / "mlflow.db", "UPDATE model_versions SET source = ? WHERE version = 1", "/x" * 3000)
    with served(registered) as client:
        assert len(json.dumps(client.get("/health/ready").json())) < 4000
