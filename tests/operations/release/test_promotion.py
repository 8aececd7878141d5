"""Who is in production is decided by answers, written once, and survives a kill at any step."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import toy_promotion as toy
from openmlops.adapters.mlflow_tables import STATE_TAG
from openmlops.adapters.registry import DATASET_TAG
from openmlops.errors import EvaluationError, GateError, LedgerConflict, LedgerCorrupt, ModelCorrupt, ModelNotFound
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.release import listing, promotion
from openmlops.operations.release.cached_predictions import cached_predictions
from openmlops.operations.workspace import Workspace

NAMES = tuple(map(str, range(toy.CLASSES)))
POOR, GOOD, EQUAL, BAD, BEST, BROKEN = 1, 2, 3, 4, 5, 6
"""registered versions by what their files answer; what MLflow has recorded of them says the opposite"""


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with six registered versions and an empty ledger. MLflow's recorded accuracy is wrong for all of them."""
    found = toy.workspace(tmp_path_factory.mktemp("home"))
    toy.splits(found)
    for version in (POOR, GOOD, EQUAL, BAD, BEST, BROKEN):
        folder = found.home / "exports" / str(version)
        folder.mkdir(parents=True)
        toy.write_model(folder / "model.onnx", version % 6, scale=np.nan if version == BROKEN else 5.0)
        Manifest.of(folder).write(folder / MANIFEST)
        run_id = found.tracking.start("toy", {}, {})
        found.tracking.log_metrics(run_id, {"test_accuracy": 0.99 if version in (POOR, BAD) else 0.01}, datetime.now(UTC))
        found.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: "d" * 64})
    return found.home


def copied(registered: Path, home: Path) -> Workspace:
    home.mkdir(exist_ok=True)
    shutil.copy(registered / "mlflow.db", home)
    shutil.copytree(registered / "raw", home / "raw")
    return toy.workspace(home)


@pytest.fixture
def workspace(registered: Path, tmp_path: Path) -> Workspace:
    return copied(registered, tmp_path / "home")


def decide(workspace: Workspace, version: int):
    return promotion.decide(workspace, workspace.registry.version(toy.NAME, version), toy.splits(workspace))


def promote(workspace: Workspace, version: int, reason: str | None = None, **how):
    return promotion.promote(workspace, f"{toy.NAME}/{version}", reason, toy.splits(workspace), **how)


def champion(workspace: Workspace) -> tuple[int | None, int | None]:
    """By the ledger, and by MLflow's alias."""
    return workspace.ledger.champion(toy.NAME), workspace.registry.alias(toy.NAME, "champion")


# By the pipeline


def test_the_same_training_once_more_is_rejected_and_says_why(workspace):
    """Same data, seed, configuration and code: the same files under a new number."""
    decide(workspace, GOOD)
    again = workspace.registry.version(toy.NAME, EQUAL).model_copy(
        update={"sha256": workspace.registry.version(toy.NAME, GOOD).sha256}
    )
    entry = promotion.decide(workspace, again, toy.splits(workspace))
    assert (entry.kind, entry.champion) == ("reject", GOOD)
    assert "has exactly the same files as the champion" in entry.reasons[0]


def test_the_first_version_above_chance_becomes_champion(workspace):
    entry = decide(workspace, POOR)
    assert (entry.kind, entry.version, entry.champion, entry.dataset) == ("promote", POOR, POOR, "d" * 64)
    assert champion(workspace) == (POOR, POOR)
    assert workspace.registry.alias(toy.NAME, "staging") == entry.champion


def test_the_last_trained_model_does_not_go_live_by_itself(workspace):
    decide(workspace, GOOD)
    entry = decide(workspace, BAD)
    assert (entry.kind, entry.version, entry.champion) == ("reject", BAD, GOOD)
    assert champion(workspace) == (GOOD, GOOD)
    assert workspace.registry.alias(toy.NAME, "staging") == BAD


def test_recorded_metrics_have_no_say(workspace):
    """MLflow says 99 % of the poor version and 1 % of the good one; their answers say 70 % and 76 %."""
    decide(workspace, POOR)
    entry = decide(workspace, GOOD)
    assert entry.kind == "promote"
    (compared,) = entry.verdict.comparisons
    assert (compared.challenger_score, compared.opponent_score, compared.n) == (0.76, 0.70, 2000)


def test_an_equal_model_is_inconclusive_and_says_how_many_labels_would_settle_it(workspace):
    decide(workspace, GOOD)
    entry = decide(workspace, EQUAL)
    assert (entry.kind, entry.champion) == ("inconclusive", GOOD)
    assert entry.verdict.more_labels > 0
    assert f"about {entry.verdict.more_labels:,} more labelled images are needed to decide" in entry.reasons[0]


def test_the_best_champion_ever_stays_the_bar_after_a_worse_one_was_forced(workspace):
    decide(workspace, BEST)
    promote(workspace, POOR, "demonstration for the auditors", force=True)
    entry = decide(workspace, GOOD)
    assert (entry.kind, entry.champion) == ("reject", POOR)
    assert f"against version {BEST} on holdout" in entry.reasons[0]
    assert {compared.opponent for compared in entry.verdict.comparisons} == {POOR, BEST}


def test_a_former_champion_that_is_gone_is_named(workspace):
    decide(workspace, POOR)
    decide(workspace, GOOD)
    workspace.registry._client.delete_model_version(toy.NAME, str(POOR))
    for kept in ("models", "answers"):
        shutil.rmtree(workspace.home / kept)
    assert f"Version {POOR} was champion and could not be compared" in decide(workspace, EQUAL).reasons[-1]


def test_the_champion_at_the_gate_is_an_error(workspace):
    decide(workspace, GOOD)
    with pytest.raises(GateError, match="are the same model"):
        promote(workspace, GOOD)


def test_a_verdict_that_is_asked_for_again_is_the_one_that_was_written(workspace):
    """As after a kill, or a commit that was cut off; also when another version was promoted in between."""
    first = decide(workspace, GOOD)
    assert decide(workspace, GOOD) == first
    decide(workspace, BEST)
    assert decide(workspace, GOOD) == first
    assert [entry.version for entry in workspace.ledger.history(toy.NAME)] == [GOOD, BEST]
    assert champion(workspace) == (BEST, BEST)


def test_a_model_that_answers_nan_is_not_judged(workspace):
    with pytest.raises(EvaluationError, match="toy/6 predicts NaN or infinity for 2000 of 2000 images"):
        decide(workspace, BROKEN)
    assert workspace.ledger.history(toy.NAME) == ()


def test_answers_are_given_once_and_damaged_ones_again(workspace, monkeypatch):
    decide(workspace, GOOD)
    (kept,) = (workspace.home / "answers").iterdir()
    content = kept.read_bytes()
    model, images = workspace.registry.version(toy.NAME, GOOD), toy.read(workspace.data_folder).images
    whole = cached_predictions(workspace, model, images, NAMES)
    middle = len(content) // 2
    kept.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    np.testing.assert_array_equal(cached_predictions(workspace, model, images, NAMES), whole)
    monkeypatch.setattr(type(workspace.registry), "fetch", lambda *_: pytest.fail("the model was asked again"))
    np.testing.assert_array_equal(cached_predictions(workspace, model, images, NAMES), whole)


def test_other_images_are_other_answers(workspace):
    model, images = workspace.registry.version(toy.NAME, GOOD), toy.read(workspace.data_folder).images
    before = cached_predictions(workspace, model, images, NAMES)
    np.testing.assert_array_equal(cached_predictions(workspace, model, images[::-1], NAMES), before[::-1])


def test_a_training_that_lost_the_race_is_judged_against_the_winner(workspace, monkeypatch):
    decide(workspace, POOR)
    judged, original = [], promotion.run_gate

    def gate_while_another_wins(*arguments):
        verdict = original(*arguments)
        judged.append(verdict.champion)
        if len(judged) == 1:
            monkeypatch.setattr(promotion, "run_gate", original)
            decide(workspace, BEST)
            monkeypatch.setattr(promotion, "run_gate", gate_while_another_wins)
        return verdict

    monkeypatch.setattr(promotion, "run_gate", gate_while_another_wins)
    entry = decide(workspace, GOOD)
    assert judged == [POOR, BEST]
    assert (entry.sequence, entry.kind, entry.champion) == (3, "reject", BEST)


# By hand


def test_by_hand_the_gate_refuses_and_records_that_it_did(workspace):
    decide(workspace, GOOD)
    with pytest.raises(GateError, match=r"did not promote toy/4 \(reject\): Version 4 is worse: .* Pass --force and --reason"):
        promote(workspace, BAD)
    assert [(entry.kind, entry.version) for entry in workspace.ledger.history(toy.NAME)] == [("promote", GOOD), ("reject", BAD)]
    assert champion(workspace) == (GOOD, GOOD)


def test_force_promotes_against_the_gate_and_the_ledger_says_so(workspace):
    decide(workspace, GOOD)
    entry = promote(workspace, BAD, "the only one that fits the camera", force=True)
    assert entry.reasons[0] == "Forced manually against the verdict 'reject': the only one that fits the camera"
    assert (entry.kind, entry.verdict.outcome) == ("promote", "reject")
    assert champion(workspace) == (BAD, BAD)


def test_a_reason_is_a_note_and_forces_nothing(workspace):
    decide(workspace, GOOD)
    with pytest.raises(GateError, match=r"did not promote .* --reason alone is a note, and no longer forces"):
        promote(workspace, BAD, "nightly check")
    assert workspace.ledger.head(toy.NAME).reasons[-1] == "Submitted manually: nightly check"
    assert champion(workspace) == (GOOD, GOOD)
    assert promote(workspace, BEST, "nightly check").reasons[0] == "Promoted manually: nightly check"


def test_force_without_a_reason_is_refused_before_the_gate_runs(workspace, monkeypatch):
    decide(workspace, GOOD)
    monkeypatch.setattr(promotion, "run_gate", lambda *values: pytest.fail("the gate ran"))
    with pytest.raises(GateError, match="without a reason"):
        promote(workspace, BAD, "  ", force=True)


def test_a_promotion_by_hand_that_others_overtook_is_a_conflict(workspace, monkeypatch):
    decide(workspace, POOR)
    original = promotion.run_gate

    def gate_while_another_wins(*arguments):
        monkeypatch.setattr(promotion, "run_gate", original)
        verdict = original(*arguments)
        decide(workspace, BEST)
        return verdict

    monkeypatch.setattr(promotion, "run_gate", gate_while_another_wins)
    with pytest.raises(LedgerConflict, match="advanced past sequence 1"):
        promote(workspace, GOOD)
    assert champion(workspace) == (BEST, BEST)


def test_rollback_goes_back_one_champion_at_a_time_and_rewrites_nothing(workspace):
    for version in (POOR, GOOD, BEST):
        decide(workspace, version)
    before = workspace.ledger.history(toy.NAME)
    assert promotion.rollback(workspace, toy.NAME, "complaints").champion == GOOD
    assert promotion.rollback(workspace, toy.NAME).champion == POOR
    assert champion(workspace) == (POOR, POOR)
    after = workspace.ledger.history(toy.NAME)
    assert after[:3] == before
    assert after[3].reasons == (f"Rolled back from version {BEST} to version {GOOD}: complaints",)
    with pytest.raises(ModelNotFound, match="nothing to roll back to: version 1 was the first champion"):
        promotion.rollback(workspace, toy.NAME)


def test_there_is_no_rollback_without_a_champion(workspace):
    with pytest.raises(ModelNotFound, match="it has no champion"):
        promotion.rollback(workspace, toy.NAME)


def test_a_rollback_past_a_rejected_version_finds_the_champion_before(workspace):
    for version in (POOR, GOOD, BAD):
        decide(workspace, version)
    assert promotion.rollback(workspace, toy.NAME).champion == POOR


@pytest.fixture
def damage(registered: Path) -> Iterator[Callable[[Workspace, int], None]]:
    """Change a byte of a version's files in MLflow, and of the copy in this home."""
    before: dict[Path, bytes] = {}

    def change(workspace: Workspace, version: int) -> None:
        sha256 = workspace.registry.version(toy.NAME, version).sha256
        stored = list((registered / "mlflow-artifacts").rglob(f"model-{sha256[:12]}/model.onnx"))
        assert len(stored) == 1
        for path in (*stored, *workspace.home.glob(f"models/{sha256}/model.onnx")):
            before[path] = path.read_bytes()
            path.chmod(0o644)
            path.write_bytes(before[path][:-1] + bytes([before[path][-1] ^ 1]))

    yield change
    for path, content in before.items():
        path.write_bytes(content)


def test_a_rollback_to_what_cannot_serve_is_refused_and_the_next_good_one_named(workspace, damage):
    for version in (POOR, GOOD, BEST):
        decide(workspace, version)
    damage(workspace, GOOD)
    before = workspace.ledger.history(toy.NAME)
    with pytest.raises(ModelCorrupt, match=r"Version 2 of toy cannot serve: .*damaged.* `openmlops rollback toy --to 1`"):
        promotion.rollback(workspace, toy.NAME)
    assert (workspace.ledger.history(toy.NAME), champion(workspace)) == (before, (BEST, BEST))
    entry = promotion.rollback(workspace, toy.NAME, "complaints", chosen=POOR)
    assert (entry.champion, entry.reasons[1]) == (POOR, f"Passed over: version {GOOD} was not chosen")
    with pytest.raises(ModelNotFound, match="version 1 was the first champion"):
        promotion.rollback(workspace, toy.NAME)


def test_a_rollback_with_no_good_version_left_says_so(workspace, damage):
    for version in (POOR, GOOD, BEST):
        decide(workspace, version)
    for version in (POOR, GOOD):
        damage(workspace, version)
    with pytest.raises(ModelCorrupt, match="no former champion before it is good"):
        promotion.rollback(workspace, toy.NAME)


@pytest.mark.parametrize("chosen", [BEST, BAD, 99])
def test_only_a_former_champion_can_be_chosen(workspace, chosen):
    for version in (POOR, GOOD, BEST):
        decide(workspace, version)
    with pytest.raises(ModelNotFound, match=f"Version {chosen} of toy was not champion before .* Choose one of 2, 1"):
        promotion.rollback(workspace, toy.NAME, chosen=chosen)


def test_what_the_gate_knows_from_kept_predictions_is_not_promoted_without_its_files(workspace, damage):
    decide(workspace, POOR)
    with pytest.raises(GateError):
        promote(workspace, BAD)
    damage(workspace, BAD)
    with pytest.raises(ModelCorrupt, match=r"damaged"):
        promote(workspace, BAD, "the only one that fits the camera", force=True)
    assert champion(workspace) == (POOR, POOR)


# Reading


def test_the_overview_says_how_each_version_stands(workspace):
    for version in (POOR, GOOD, BAD):
        decide(workspace, version)
    new = dict.fromkeys((EQUAL, BEST, BROKEN), "not judged")
    stands = {row.version: row.stands_as for row in listing.overview(workspace)}
    assert stands == {POOR: "former champion", GOOD: "champion", BAD: "rejected", **new}
    assert {v: s for v, s in workspace.registry.version_tags(toy.NAME, STATE_TAG).items() if s} == {
        version: state for version, state in stands.items() if version not in new
    }
    promote(workspace, BAD, "to see", force=True)
    assert workspace.registry.version_tags(toy.NAME, STATE_TAG)[BAD] == "champion, forced"
    promotion.rollback(workspace, toy.NAME)
    stands = {row.version: row.stands_as for row in listing.overview(workspace)}
    assert (stands[BAD], stands[GOOD]) == ("rejected, forced once", "champion")
    workspace.registry.tag_version(toy.NAME, BAD, STATE_TAG, "champion")
    listing.overview(workspace)
    assert workspace.registry.version_tags(toy.NAME, STATE_TAG)[BAD] == "rejected, forced once"


def test_history_checks_the_chain_before_it_is_shown(workspace):
    decide(workspace, GOOD)
    assert [entry.version for entry in listing.history(workspace, toy.NAME)] == [GOOD]
    with workspace.ledger._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET actor = 'nobody'")
    with pytest.raises(LedgerCorrupt, match="row 1"):
        listing.history(workspace, toy.NAME)
    with pytest.raises(ModelNotFound, match="no model 'other'"):
        listing.history(workspace, "other")


# Repair


@pytest.mark.parametrize("alias", [None, BAD])
def test_an_alias_that_disagrees_with_the_ledger_is_repaired(workspace, alias):
    decide(workspace, GOOD)
    workspace.registry.delete_alias(toy.NAME, "champion")
    if alias:
        workspace.registry.set_alias(toy.NAME, "champion", alias)
    (said,) = promotion.repair(workspace, toy.NAME)
    assert said.endswith(f"reset to version {GOOD}, as in the ledger")
    assert champion(workspace) == (GOOD, GOOD)
    assert promotion.repair(workspace, toy.NAME) == ()


def test_a_champion_that_the_ledger_never_had_loses_the_alias(workspace):
    workspace.registry.set_alias(toy.NAME, "champion", BAD)
    assert len(promotion.repair(workspace, toy.NAME)) == 1
    assert champion(workspace) == (None, None)


CRASHES = """
import json, os, signal, sys
import toy_promotion as toy
from openmlops.adapters import ledger
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.registry import Registry
from openmlops.operations.release import promotion

def die_at(owner, name, call, after):
    original, calls = getattr(owner, name), []
    def wrapped(*arguments, **named):
        calls.append(name)
        if len(calls) == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, wrapped)

STEPS = {
    "before": (Registry, "set_alias", 1, False),
    "staging": (Registry, "set_alias", 1, True),
    "inserted": (ledger, "_write", 1, True),
    "committed": (Ledger, "append", 1, True),
    "mirrored": (Registry, "set_alias", 2, True),
}
for step, home in json.loads(sys.argv[1]).items():
    pid = os.fork()
    if pid == 0:
        from pathlib import Path
        workspace = toy.workspace(Path(home))
        die_at(*STEPS[step])
        promotion.decide(workspace, workspace.registry.version(toy.NAME, 2), toy.splits(workspace))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, step
"""
STEPS = ("before", "staging", "inserted", "committed", "mirrored")


@pytest.fixture(scope="session")
def crashed(registered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each step, a home in which the promotion of a better version was killed right there."""
    start = copied(registered, tmp_path_factory.mktemp("start") / "home")
    decide(start, POOR)
    homes = {step: tmp_path_factory.mktemp(step) / "home" for step in STEPS}
    for home in homes.values():
        shutil.copytree(start.home, home)
    given = json.dumps({step: str(home) for step, home in homes.items()})
    subprocess.run([sys.executable, "-c", CRASHES, given], check=True, cwd=Path(__file__).parents[2], timeout=600)
    return homes


@pytest.mark.parametrize("step", STEPS)
def test_a_promotion_killed_at_any_step_leaves_one_champion_and_is_repaired(crashed, step):
    workspace = toy.workspace(crashed[step])
    workspace.ledger.history(toy.NAME)
    decided = GOOD if step in ("committed", "mirrored") else POOR
    assert workspace.ledger.champion(toy.NAME) == decided
    assert bool(promotion.repair(workspace, toy.NAME)) == (step == "committed")
    assert champion(workspace) == (decided, decided)
    assert workspace.registry.alias(toy.NAME, "staging") == (POOR if step == "before" else GOOD)
    if decided == POOR:
        assert decide(workspace, GOOD).champion == GOOD
