"""Somebody deletes, renames or restores something on MLflow's page: what each command does then.

The ledger decides what is in production, and an intact local copy of a version's files is as good as the one in MLflow.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

import toy_promotion as toy
from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.registry import DATASET_TAG, SHA256_TAG
from openmlops.cli import app
from openmlops.errors import ModelNotFound, ServiceRefused
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.monitoring import windows
from openmlops.operations.projects import doctor
from openmlops.operations.release import gate, listing, promotion
from openmlops.operations.release.aliases import find_version
from openmlops.operations.retries import require_services
from openmlops.operations.workspace import Workspace

FIRST, FORMER, CHAMPION, CHALLENGER = 1, 2, 3, 4
ANSWERS = {FIRST: 1, FORMER: 2, CHAMPION: 5, CHALLENGER: 3}
"""version -> what its model answers (`toy_promotion`)"""
DATA = "d" * 64


def register(found: Workspace, answers: int) -> int:
    """A new version, with a run of its own."""
    folder = found.home / "exports" / str(datetime.now(UTC).timestamp())
    folder.mkdir(parents=True)
    toy.write_model(folder / "model.onnx", answers)
    Manifest.of(folder).write(folder / MANIFEST)
    run_id = found.tracking.start("toy", {}, {})
    found.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, datetime.now(UTC))
    taken = {entry.version: entry.model_sha256 for entry in found.ledger.history(toy.NAME)}
    return found.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: DATA}, taken=taken).version


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three champions, the third in production, and a version that never came to the gate."""
    found = toy.workspace(tmp_path_factory.mktemp("home"))
    toy.splits(found)
    for version, answers in ANSWERS.items():
        assert register(found, answers) == version
    for version in (FIRST, FORMER, CHAMPION):
        promotion.decide(found, found.registry.version(toy.NAME, version), toy.splits(found))
    assert found.ledger.champions(toy.NAME) == (FIRST, FORMER, CHAMPION)
    return found.home


@pytest.fixture
def workspace(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of it, which the commands open. MLflow's files stay where they are."""
    home = tmp_path / "home"
    shutil.copytree(original, home, ignore=shutil.ignore_patterns("*.lock", "mlflow-artifacts", "exports", "answers"))
    found = toy.workspace(home)
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: found)
    return found


def client(workspace: Workspace) -> MlflowClient:
    return connect(workspace.settings.tracking_uri)


def run_of(workspace: Workspace, version: int) -> str:
    return str(client(workspace).get_model_version(toy.NAME, str(version)).run_id)


# What somebody does


def delete_the_champion(workspace: Workspace) -> None:
    client(workspace).delete_model_version(toy.NAME, str(CHAMPION))


def delete_the_former_champion(workspace: Workspace) -> None:
    client(workspace).delete_model_version(toy.NAME, str(FORMER))


def delete_both(workspace: Workspace) -> None:
    delete_the_champion(workspace)
    delete_the_former_champion(workspace)


def delete_the_champion_of_which_there_is_no_copy(workspace: Workspace) -> None:
    delete_the_champion(workspace)
    shutil.rmtree(workspace.home / "models")


def delete_all_versions(workspace: Workspace) -> None:
    for version in ANSWERS:
        client(workspace).delete_model_version(toy.NAME, str(version))


def delete_the_model(workspace: Workspace) -> None:
    client(workspace).delete_registered_model(toy.NAME)


def rename_the_model(workspace: Workspace) -> None:
    client(workspace).rename_registered_model(toy.NAME, "other")


def delete_its_run(workspace: Workspace) -> None:
    client(workspace).delete_run(run_of(workspace, CHAMPION))


def purge_its_run(workspace: Workspace) -> None:
    """As `mlflow gc` does."""
    run_id = run_of(workspace, CHAMPION)
    delete_its_run(workspace)
    connect(workspace.settings.tracking_uri)._tracking_client.store._hard_delete_run(run_id)


def delete_the_experiment(workspace: Workspace) -> None:
    client(workspace).delete_experiment(workspace.registry.experiment_of(run_of(workspace, CHAMPION)))


def rename_the_experiment(workspace: Workspace) -> None:
    client(workspace).rename_experiment(workspace.registry.experiment_of(run_of(workspace, CHAMPION)), "other")


def delete_the_alias(workspace: Workspace) -> None:
    client(workspace).delete_registered_model_alias(toy.NAME, "champion")


def move_the_alias(workspace: Workspace) -> None:
    client(workspace).set_registered_model_alias(toy.NAME, "champion", str(FIRST))


def archive_the_champion(workspace: Workspace) -> None:
    client(workspace).transition_model_version_stage(toy.NAME, str(CHAMPION), "Archived")


def delete_its_tags(workspace: Workspace) -> None:
    for tag in (SHA256_TAG, DATASET_TAG):
        client(workspace).delete_model_version_tag(toy.NAME, str(CHAMPION), tag)


DEEDS = (
    delete_the_champion,
    delete_the_former_champion,
    delete_both,
    delete_the_champion_of_which_there_is_no_copy,
    delete_all_versions,
    delete_the_model,
    rename_the_model,
    delete_its_run,
    purge_its_run,
    delete_the_experiment,
    rename_the_experiment,
    delete_the_alias,
    move_the_alias,
    archive_the_champion,
    delete_its_tags,
)
GONE = "deleted from MLflow, its files are kept here"
LOST = "deleted from MLflow, no copy of its files is here"
RUN_GONE = "its run was deleted from MLflow, its files are kept here"
TOLD: dict[Callable[[Workspace], None], dict[int, str]] = {
    delete_the_champion: {CHAMPION: GONE},
    delete_the_former_champion: {FORMER: GONE},
    delete_both: {FORMER: GONE, CHAMPION: GONE},
    delete_the_champion_of_which_there_is_no_copy: {CHAMPION: LOST},
    delete_all_versions: {FIRST: GONE, FORMER: GONE, CHAMPION: GONE},
    delete_the_model: {FIRST: GONE, FORMER: GONE, CHAMPION: GONE},
    rename_the_model: {FIRST: GONE, FORMER: GONE, CHAMPION: GONE},
    delete_its_run: {CHAMPION: RUN_GONE},
    purge_its_run: {CHAMPION: RUN_GONE},
    delete_the_experiment: dict.fromkeys(ANSWERS, RUN_GONE),
}
"""what `models` says of which version; nothing after the others"""
RESTORED = {
    delete_the_former_champion: FIRST,
    delete_both: FIRST,
    delete_all_versions: None,
    delete_the_model: None,
    rename_the_model: None,
}
"""the version that a rollback restores; after the others FORMER"""

of_consequence = pytest.mark.parametrize("deed", [*TOLD, delete_its_tags], ids=lambda deed: deed.__name__)


def shown(*words: str) -> str:
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_what_is_read_is_always_shown_and_says_what_is_gone(workspace: Workspace, deed) -> None:
    before = shown("history", toy.NAME), shown("decisions")
    deed(workspace)
    assert (shown("history", toy.NAME), shown("decisions")) == before
    rows = {row["version"]: row for row in json.loads(shown("models", "--json"))["models"] if row["name"] == toy.NAME}
    assert {version: row["gone"] for version, row in rows.items() if row["gone"]} == TOLD.get(deed, {})
    assert [version for version, row in rows.items() if row["stands_as"] == "champion"] == [CHAMPION]
    assert f"{toy.NAME}/{CHAMPION}\tchampion" in shown("models")

    champion = windows.load_latest_model(workspace)
    assert (champion.version, champion.dataset) == (CHAMPION, DATA)
    assert find_version(workspace, f"{toy.NAME}@champion") == champion
    if deed is delete_the_champion_of_which_there_is_no_copy:
        with pytest.raises(ModelNotFound, match=f"no intact local copy.*openmlops rollback {toy.NAME}"):
            workspace.registry.fetch(champion)
    else:
        assert (workspace.registry.fetch(champion) / "model.onnx").is_file()

    (found,) = (f for f in doctor.examine(workspace, "http://127.0.0.1:1") if f.service == "champion")
    told = TOLD.get(deed, {}).get(CHAMPION, "")
    assert found.status == {"": "ok", LOST: "failed"}.get(told, "warning")
    assert found.says.startswith(f"{toy.NAME}/{CHAMPION}")
    assert bool(found.remedy) == bool(told)


@of_consequence
def test_a_new_version_comes_to_the_gate_and_can_be_promoted_by_hand(workspace: Workspace, deed, capsys) -> None:
    """As after a training: the new version gets a number that the ledger does not know."""
    splits = toy.splits(workspace)
    deed(workspace)
    gate.check_champion(workspace)
    warned = capsys.readouterr().err
    if deed is delete_the_experiment:
        with pytest.raises(ServiceRefused, match="mlflow experiments restore --experiment-id"):
            require_services(workspace)
        return
    require_services(workspace)
    new = register(workspace, answers=4)
    assert new > CHAMPION
    entry = promotion.decide(workspace, workspace.registry.version(toy.NAME, new), splits)
    is_compared = deed is not delete_the_champion_of_which_there_is_no_copy
    assert (entry.kind, bool(warned)) == (("reject", False) if is_compared else ("inconclusive", True))
    assert ("could not be compared" in entry.reasons[0]) != is_compared
    forced = promotion.promote(workspace, f"{toy.NAME}/{new}", "it is needed", splits, force=True)
    assert (forced.champion, workspace.registry.alias(toy.NAME, "champion")) == (new, new)


@of_consequence
def test_a_rollback_restores_the_last_champion_that_mlflow_has(workspace: Workspace, deed) -> None:
    deed(workspace)
    restored = RESTORED.get(deed, FORMER)
    if restored is None:
        with pytest.raises(ModelNotFound, match="versions 2, 1 were deleted from MLflow"):
            promotion.rollback(workspace, toy.NAME)
        return
    assert promotion.previous_champion(workspace, toy.NAME) == restored
    entry = promotion.rollback(workspace, toy.NAME)
    assert (entry.champion, workspace.registry.alias(toy.NAME, "champion")) == (restored, restored)
    assert ("Passed over: version 2 was deleted from MLflow" in entry.reasons) == (restored == FIRST)


def test_rollbacks_go_on_behind_a_version_that_was_passed_over(workspace: Workspace) -> None:
    delete_the_former_champion(workspace)
    promotion.rollback(workspace, toy.NAME)
    with pytest.raises(ModelNotFound, match="version 1 was the first champion"):
        promotion.rollback(workspace, toy.NAME)


def test_a_deleted_version_is_not_put_into_production(workspace: Workspace) -> None:
    delete_the_former_champion(workspace)
    with pytest.raises(ModelNotFound, match="has no version 2"):
        promotion.promote(workspace, f"{toy.NAME}/{FORMER}", "why not", toy.splits(workspace))


def test_a_restored_run_is_as_before(workspace: Workspace) -> None:
    run_id = run_of(workspace, CHAMPION)
    delete_its_run(workspace)
    client(workspace).restore_run(run_id)
    assert not any(row.gone for row in listing.overview(workspace))


def test_models_of_others_keep_their_alias(workspace: Workspace) -> None:
    client(workspace).create_registered_model("theirs")
    client(workspace).create_model_version("theirs", "/somewhere")
    client(workspace).set_registered_model_alias("theirs", "champion", "1")
    assert next((row.name, row.stands_as) for row in listing.overview(workspace)) == ("theirs", "champion")
    assert workspace.registry.alias("theirs", "champion") == 1


def test_files_that_were_deleted_from_the_store_are_named(workspace: Workspace, tmp_path: Path) -> None:
    champion = windows.load_latest_model(workspace)
    shutil.rmtree(workspace.home / "models")
    stored = Path(client(workspace).get_run(champion.run_id).info.artifact_uri.removeprefix("file://"))
    stored.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(
            ModelNotFound, match=r"The files runs:/.* were deleted from MLflow, and there is no intact local copy"
        ):
            workspace.registry.fetch(champion)
    finally:
        (tmp_path / "elsewhere").rename(stored)
    assert workspace.registry.fetch(champion).is_dir()
