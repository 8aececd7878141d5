"""The demo: train and serve a champion on sample data, degrade the camera, detect drift, add labels, deploy the better model.

Nothing is faked: the functions of the commands run on a separate folder, the server in its own process, and every reported fact
is checked. The demo only controls the corruption of the camera.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from openmlops.core.quality import TrainingOutcome
from openmlops.demo.report import render
from openmlops.demo.scenario import Scenario, scenario_of, shown
from openmlops.demo.server import served_version, serving
from openmlops.demo.telling import Accuracies, Champions, DemoOutcome, Story
from openmlops.demo.world import CLEAN, TO_LABEL, TO_MEASURE, WINDOW, World, compared
from openmlops.errors import OpenMLOpsError
from openmlops.files import absolute, write_text
from openmlops.operations.data import datasets
from openmlops.operations.workspace import Workspace
from openmlops.settings import move_into

MARK = ".openmlops-demo"
POLICY = {"POLICY_ALARMED_WINDOWS": "1", "POLICY_OF_WINDOWS": "1", "POLICY_COOLDOWN_HOURS": "0"}
"""a demo of two minutes cannot wait for two alarms in three windows, as the default policy does"""
SWAP_SECONDS = 30


def run_demo(folder: Path, use_case: str = "cifar10") -> DemoOutcome:
    """Recreate `folder` and run the demo in it. Raises OpenMLOpsError if a check fails."""
    start, scenario = time.monotonic(), scenario_of(use_case)
    where = _fresh(folder)
    write_text(where / ".env", f"USE_CASE={use_case}\n")  # so that commands run in the folder use this use case
    move_into(where, USE_CASE=use_case, **POLICY)
    workspace = Workspace.open()
    story = Story(workspace.use_case.task.score_name)
    _first_champion(workspace, story, scenario)
    with serving(workspace.home / "demo-server.log") as url:
        world = World(workspace, story, scenario, url)
        world.story.fact(served_version(url) == 1, "server", f"version 1 is serving on {url}")
        clean, drift_on_clean = _clean_traffic(world)
        degraded, drift_on_corrupted = _degrade_camera(world)
        _send_labels(world)
        _run_cycle(world)
        recovered = _recovery(world, degraded)
        lost = world.lost_records()
        failed, answered = world.failed, world.answered
        story.chapter("No requests or log records were lost")
        story.fact(failed == 0, "clients", f"{answered} requests completed, none failed, including during the model swap")
        story.fact(lost == 0, "log", f"all {answered} predictions are in the log, each exactly once")
    story.ledger = _ledger(workspace)
    story.fact(len(story.ledger) >= 2, "ledger", f"{len(story.ledger)} entries, hash chain intact")
    outcome = DemoOutcome(
        drift_on_clean=drift_on_clean,
        drift_on_corrupted=drift_on_corrupted,
        failed_requests=failed,
        answered_requests=answered,
        lost_records=lost,
        metric=story.metric,
        accuracy=Accuracies(clean=clean, degraded=degraded, recovered=recovered),
        champion=Champions(before=1, after=2),
        seconds=round(time.monotonic() - start, 1),
        report=str(where / "report.html"),
        folder=str(where),
    )
    write_text(where / "report.html", render(story, outcome))
    return outcome


def _fresh(folder: Path) -> Path:
    """An empty folder; an existing one is emptied only if an earlier demo created it."""
    folder = absolute(folder)
    if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
        raise OpenMLOpsError(f"{folder} exists and was not created by the demo", "Choose another folder: openmlops demo FOLDER")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def _first_champion(workspace: Workspace, story: Story, scenario: Scenario) -> TrainingOutcome:
    from openmlops.pipelines.training_pipeline import run_training

    story.chapter("Train a first model on sample data; the gate promotes it")
    dataset = datasets.make_sample(workspace)
    report = datasets.check(workspace)
    story.fact(report.passed, "data", f"{dataset.rows} sample images, version {dataset.fingerprint[:12]}, checked")
    outcome = run_training(workspace.use_case.config.model_validate(scenario.first))
    e, name = outcome.evaluation, outcome.model.name
    _, score = e.headline()
    text = f"{e.n} test images: {shown(story.metric, score.value)} (95 % interval {score.low:.3f} to {score.high:.3f})"
    story.fact(score.value > scenario.good, "model 1", text)
    story.fact(outcome.verdict.outcome == "promote", "gate", outcome.verdict.reasons[0])
    alias = workspace.registry.alias(name, "champion")
    story.fact(workspace.ledger.champion(name) == 1 == alias, "champion", f"{name}/1, in the ledger and as MLflow alias")
    return outcome


def _clean_traffic(world: World) -> tuple[float, bool]:
    world.story.chapter("Clean traffic: no drift")
    accuracy = world.send("clean", world.images(CLEAN, WINDOW, corrupted=False))
    found = world.monitor("clean")
    text = f"clean traffic, {shown(world.story.metric, accuracy)}: {compared(found)}"
    world.story.fact(found.drift.outcome == "no_drift", "no drift", text)
    return accuracy, found.drift.outcome == "drift"


def _degrade_camera(world: World) -> tuple[float, bool]:
    world.story.chapter("The camera degrades")
    accuracy = world.send("degraded", world.images(TO_MEASURE, WINDOW, corrupted=True))
    clean = world.story.accuracy[0].accuracy
    what = f"{world.scenario.camera[0]}, severity {world.scenario.camera[1]} of 5: only {shown(world.story.metric, accuracy)}"
    world.story.fact(accuracy < clean - world.scenario.lost, "camera", what)
    found = world.monitor("degraded")
    moved = ", ".join(column.name for column in found.drift.columns[:3])
    text = f"detected in the first window: {compared(found)}; largest shifts: {moved}"
    world.story.fact(found.drift.outcome == "drift", "drift", text)
    asks = found.decision.action == "collect_labels"
    world.story.fact(asks, "decision", f"collect labels first: {found.decision.reasons[0]}")
    return accuracy, found.drift.outcome == "drift"


def _send_labels(world: World) -> None:
    world.story.chapter("Labels arrive for some of the new images")
    world.send("degraded", world.images(TO_LABEL, world.scenario.labelled, corrupted=True), labels=True)
    labelled = sum(report.labelled for report in world.reports)
    world.story.fact(labelled == world.scenario.labelled, "labels", f"{labelled} of the corrupted images were labelled")


def _run_cycle(world: World) -> None:
    """Run one cycle under traffic: monitor, decide, retrain, evaluate, promote; then wait for the server to swap models."""
    world.story.chapter("One cycle while clients keep sending requests: decide, retrain, gate, swap")
    from openmlops.operations.monitoring.notification import notify
    from openmlops.pipelines.cycle import run_cycle

    workspace, story = world.workspace, world.story
    config = workspace.use_case.config.model_validate(world.scenario.second)
    with _clients(world) as clients:
        outcome = run_cycle(workspace, "auto", window=WINDOW, config=config.model_dump())
        world.note("degraded", outcome.monitoring)
        notify(workspace, outcome)
        story.fact(outcome.act == "retrain", "decision", f"retrain: {outcome.monitoring.decision.reasons[0]}")
        assert outcome.outcome is not None
        story.fact(outcome.champion == 2, "gate", f"{outcome.outcome.kind}: {outcome.outcome.reasons[0]}")
        seconds = _wait_for_swap(world)
        story.fact(
            seconds < SWAP_SECONDS, "swap", f"the server switched to version 2 {seconds:.1f} s after the promotion, under load"
        )
    clients.result()


@contextmanager
def _clients(world: World) -> Iterator["Future[float]"]:
    """Send corrupted images in a thread until the block ends."""
    stop = threading.Event()
    stream = world.images(TO_MEASURE, WINDOW, corrupted=True)
    with ThreadPoolExecutor(1) as background:
        sending = background.submit(world.send, "degraded", stream, stop=stop)
        try:
            yield sending
        finally:
            stop.set()


def _wait_for_swap(world: World) -> float:
    start = time.monotonic()
    while served_version(world.url) != 2 and time.monotonic() - start < SWAP_SECONDS:
        time.sleep(0.1)
    return time.monotonic() - start


def _recovery(world: World, degraded: float) -> float:
    world.story.chapter("The new champion on the same degraded camera")
    accuracy = world.send("recovered", world.images(TO_MEASURE, WINDOW, corrupted=True))
    text = f"the same images from the degraded camera, predicted by version 2: {shown(world.story.metric, accuracy)}"
    world.story.fact(accuracy > degraded + world.scenario.lost, "recovered", text)
    return accuracy


def _ledger(workspace: Workspace) -> tuple:
    workspace.ledger.history(workspace.model_name)
    return workspace.ledger.history(workspace.model_name)
