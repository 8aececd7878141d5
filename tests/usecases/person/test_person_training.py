"""Claims about the detector's training: kills leave no trace in the result, nothing is left anywhere, failures say why."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from toy_people import CONFIG, LONGER, SPLITS, STEPS_PER_EPOCH, toy_network, toy_rows, train, train_and_die

from openmlops.core.images import boxes
from openmlops.core.quality import DetectorEpoch
from openmlops.errors import DataError, TrainingError
from openmlops.files import sha256_of
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.export import Eager
from openmlops.learning.loop import FitResult, Progress
from openmlops.operations.release import inference
from openmlops.usecases.base import load_use_case
from openmlops.usecases.yolo_folder import trainer
from openmlops.usecases.yolo_folder.dataset import Batches, RowsDataset
from openmlops.usecases.yolo_folder.job import arguments
from openmlops.usecases.yolo_folder.model import Network, resolve
from openmlops.usecases.yolo_folder.recipe import TrainConfig, canvas
from openmlops.usecases.yolo_folder.trainer import Detection
from openmlops.usecases.yolo_folder.yolo import LOGGER

KILLS = ((1, "written"), (2, "step"), (2, "saved"), (3, "written"), (3, "reported"), (4, "step"), (4, "saved"))
"""epochs and moments in which a training is killed, one after the other"""
STILL = {"mosaic": 0.0, "fliplr": 0.0, "scale": 0.0, "translate": 0.0}
"""augmentation that moves nothing"""


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


def _in_a_process(folder: Path, answer: Path, epoch: int, moment: str) -> int | None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["openmlops.usecases.yolo_folder.training"])
    process = context.Process(target=train_and_die, args=(folder, answer, epoch, moment))
    process.start()
    process.join(600)
    return process.exitcode


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_bit_equal_to_one_left_alone(tmp_path: Path) -> None:
    assert _in_a_process(tmp_path / "alone", tmp_path / "alone.pt", 0, "never") == 0
    for epoch, moment in KILLS:
        assert _in_a_process(tmp_path / "killed", tmp_path / "killed.pt", epoch, moment) == -signal.SIGKILL
    assert _in_a_process(tmp_path / "killed", tmp_path / "killed.pt", 0, "never") == 0
    alone, killed = torch.load(tmp_path / "alone.pt"), torch.load(tmp_path / "killed.pt")
    assert killed["resumed"]
    assert not alone["resumed"]
    assert _same(alone["weights"], killed["weights"])
    assert alone["epochs"] == killed["epochs"]
    assert len(killed["epochs"]) == 4
    assert not list((tmp_path / "killed").glob("*.pt"))


@dataclass(frozen=True)
class Alone:
    """A training that nothing disturbed."""

    weights: dict[str, torch.Tensor]
    result: FitResult
    steps: list[Progress]
    started: list[str]
    model: Network


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """What the other trainings of `CONFIG` are compared with."""
    steps: list[Progress] = []
    started: list[str] = []
    model, folder = toy_network(), tmp_path_factory.mktemp("alone")
    weights, result = train(folder, model=model, on_step=steps.append, on_start=lambda: started.append("once"))
    return Alone(weights, result, steps, started, model)


class Interrupted(Exception):
    """What a callback raises in these tests: not the training's own failure, so that its checkpoint stays."""


def _stop_after(epoch: int, error: type[BaseException] = Interrupted):
    def on_epoch(metrics: DetectorEpoch) -> None:
        if metrics.epoch == epoch:
            raise error

    return on_epoch


def test_an_interrupted_training_is_resumed_by_the_same_key_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_epoch=_stop_after(1, KeyboardInterrupt))
    assert not train(tmp_path, key="other data", config=CONFIG.model_copy(update={"epochs": 1}))[1].resumed
    reported: list[int] = []
    result = train(tmp_path, on_epoch=lambda metrics: reported.append(metrics.epoch))[1]
    assert result.resumed
    assert reported == [2]
    assert [metrics.epoch for metrics in result.history] == [1, 2]


@pytest.mark.parametrize("optimizer", ["SGD", pytest.param("MuSGD", marks=pytest.mark.slow)])
def test_every_optimizer_goes_on_where_it_was(tmp_path: Path, optimizer: str) -> None:
    config = CONFIG.model_copy(update={"optimizer": optimizer, "epochs": 2, "warmup_epochs": 2.0, "lr": 0.01})
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", config=config, on_epoch=_stop_after(1))
    resumed, result = train(tmp_path / "stopped", config=config)
    assert result.resumed
    assert _same(resumed, train(tmp_path / "alone", config=config)[0])


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], dict[int, dict[str, torch.Tensor]]]:
    """Makes the validation answer the given fitness by epoch; the averaged weights of each epoch are in what it returns."""
    kept: dict[int, dict[str, torch.Tensor]] = {}

    def script(fitness: list[float]) -> dict[int, dict[str, torch.Tensor]]:
        def validate(self: Detection) -> tuple[dict[str, float], float]:
            kept[self.epoch] = {f"detector.{name}": each.clone() for name, each in self.ema.ema.state_dict().items()}
            self.best_fitness = max(self.best_fitness or 0.0, fitness[self.epoch])
            found = dict.fromkeys(("precision", "recall", "mAP50", "mAP50-95"), fitness[self.epoch])
            return {f"metrics/{name}(B)": value for name, value in found.items()}, fitness[self.epoch]

        monkeypatch.setattr(Detection, "validate", validate)
        return kept

    return script


def test_the_best_validation_epoch_is_kept_and_not_the_last(tmp_path: Path, scripted: Callable) -> None:
    kept = scripted([0.1, 0.3, 0.2, 0.25])
    with pytest.raises(Interrupted):
        train(tmp_path, config=LONGER, on_epoch=_stop_after(3))
    weights, result = train(tmp_path, config=LONGER)
    assert result.resumed
    assert _same(weights, kept[1])
    assert not _same(weights, kept[3])


def test_patience_is_counted_across_an_interruption(tmp_path: Path, scripted: Callable) -> None:
    kept = scripted([0.1, 0.3, 0.2, 0.2, 0.4, 0.4])
    config = CONFIG.model_copy(update={"patience": 2, "epochs": 6})
    for last in (3, 4):  # in the middle of the waiting, and after the decision to stop
        with pytest.raises(Interrupted):
            train(tmp_path, config=config, on_epoch=_stop_after(last))
    weights, result = train(tmp_path, config=config)
    assert result.resumed
    assert result.epochs == 4
    assert _same(weights, kept[1])


def test_the_same_training_at_the_same_time_is_refused_and_harms_nothing(tmp_path: Path, alone: Alone) -> None:
    refused: list[str] = []

    def again(metrics: DetectorEpoch) -> None:
        with pytest.raises(TrainingError) as error:
            train(tmp_path)
        refused.append(str(error.value))

    weights, result = train(tmp_path, on_epoch=again)
    assert len(refused) == result.epochs
    assert "is running this training" in refused[0]
    assert _same(weights, alone.weights)


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple:
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.deterministic,
            cv2.getNumThreads(),
            dict(os.environ),
            LOGGER.level,
        )

    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    before = state()
    drawn = [torch.rand(1).item(), random.random(), np.random.rand()]
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    train(tmp_path, config=CONFIG.model_copy(update={"threads": 3, "epochs": 1}))
    assert state() == before
    assert [torch.rand(1).item(), random.random(), np.random.rand()] == drawn


PROGRAM = """
import sys
from pathlib import Path
import torch
before = torch.get_num_threads(), torch.save
from toy_people import CONFIG, train
import os
assert "OMP_NUM_THREADS" not in os.environ and "YOLO_CONFIG_DIR" not in os.environ
train(Path(sys.argv[1]), config=CONFIG.model_copy(update={"epochs": 1, "pretrained": "auto"}))
assert (torch.get_num_threads(), torch.save) == before
"""


@pytest.mark.slow
def test_nothing_is_written_outside_the_folder_and_nothing_is_said_but_one_line(tmp_path: Path) -> None:
    home, here, temporary = tmp_path / "home", tmp_path / "here", tmp_path / "temporary"
    for folder in (home, here, temporary):
        folder.mkdir()
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("YOLO", "ULTRALYTICS", "XDG", "MPL", "OMP"))
    }
    environment = {**keep, "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(Path(__file__).parent)}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "torch")  # which ultralytics makes torch make, else in TMPDIR
    arguments = [sys.executable, "-W", "error::UserWarning:__main__", "-c", PROGRAM, str(tmp_path / "fit")]
    done = subprocess.run(arguments, cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == "No yolov8n.pt in this folder: the detector is trained from scratch.\n"
    assert _files(home) == _files(here) == _files(temporary) == _files(tmp_path / "fit") == []


def test_the_validation_sees_exactly_the_pixels_that_serving_makes(tmp_path: Path) -> None:
    rows, which = toy_rows(), SPLITS["validation"]
    rows.images[which[0]] = np.random.default_rng(0).integers(0, 256, (301, 217, 3)).astype(np.uint8)
    hyp = _hyp(tmp_path)
    (batch,) = Batches(RowsDataset(rows, which, 64, 8, augment=False, hyp=hyp), 8, shuffle=False)
    for position, row in enumerate(which):
        expected = boxes.letterbox(rows.images[row], (64, 64)).transpose(2, 0, 1)
        assert np.array_equal(batch["img"][position].numpy(), expected)
        mine = batch["batch_idx"] == position
        centred = batch["bboxes"][mine].numpy() * 64
        corners = np.concatenate([centred[:, :2] - centred[:, 2:] / 2, centred[:, :2] + centred[:, 2:] / 2], axis=1)
        placed = boxes.place(rows.images[row].shape[:2], (64, 64))
        assert np.allclose(corners, boxes.to_canvas(rows.labels[row][:, :4], placed), atol=1e-3)


def test_without_augmentation_the_training_sees_what_the_validation_sees(tmp_path: Path) -> None:
    rows, which = toy_rows(), np.arange(3)
    for row, size in zip(which, ((64, 48), (96, 128), (64, 64)), strict=True):
        rows.images[row] = np.random.default_rng(row).integers(0, 256, (*size, 3)).astype(np.uint8)
        rows.labels[row] = np.array([[4, 4, 20, 30, 0]], dtype=np.float32)
    hyp = _hyp(tmp_path, CONFIG.model_copy(update={**STILL, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}))
    (augmented,), (framed,) = (
        Batches(RowsDataset(rows, which, 64, 3, augment=augment, hyp=hyp), 3, shuffle=False) for augment in (True, False)
    )
    assert torch.equal(augmented["img"], framed["img"])
    assert torch.allclose(augmented["bboxes"], framed["bboxes"], atol=1e-6)


def test_augmentation_leaves_the_images_as_they_were(tmp_path: Path) -> None:
    for still in ({}, STILL):
        hyp = _hyp(tmp_path, CONFIG.model_copy(update=still))
        dataset = RowsDataset(toy_rows(), np.arange(10), 64, 10, augment=True, hyp=hyp)
        before = [dataset.load_image(number)[0] for number in range(10)]
        (batch,) = Batches(dataset, 10, shuffle=True)
        assert batch["img"].float().std() > 0
        assert all(np.array_equal(image, dataset.load_image(number)[0]) for number, image in enumerate(before))


def _hyp(folder: Path, config: TrainConfig = CONFIG):
    from ultralytics.cfg import get_cfg

    settled = resolve(config, toy_rows(), SPLITS["train"])
    return get_cfg(overrides=arguments(settled, Compute.of(FitConfig(device="cpu", threads=1)), folder))


def test_the_test_split_is_never_touched(tmp_path: Path, alone: Alone) -> None:
    spoilt = toy_rows()
    for row in SPLITS["test"]:
        spoilt.images[row] = np.zeros_like(spoilt.images[row])
        spoilt.labels[row] = None
    assert _same(alone.weights, train(tmp_path, rows=spoilt)[0])


def test_progress_counts_to_the_total_and_epochs_are_measured(alone: Alone) -> None:
    steps, result, model = alone.steps, alone.result, alone.model
    total = 2 * STEPS_PER_EPOCH
    assert [(progress.step, progress.total) for progress in steps] == [(step, total) for step in range(1, total + 1)]
    assert {progress.accuracy for progress in steps} == {None}
    assert steps[-1].seconds_left == 0
    assert alone.started == ["once"]
    assert np.isclose(result.seconds, sum(metrics.seconds for metrics in result.history))
    for metrics in result.history:
        assert isinstance(metrics, DetectorEpoch)
        assert metrics.loss == pytest.approx(metrics.box_loss + metrics.class_loss + metrics.dfl_loss)
    assert not model.training
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}


def test_the_resolved_configuration_repeats_the_training(tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, imgsz=64, pretrained="none", threads=1)
    weights, result = train(tmp_path, config=config)
    assert isinstance(result.config, TrainConfig)
    assert None not in result.config.model_dump(exclude={"budget", "pretrained_sha256"}).values()
    again, repeated = train(tmp_path, config=result.config)
    assert repeated.config == result.config
    assert _same(weights, again)


def test_a_budget_becomes_epochs_once_and_the_epochs_repeat_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []
    measure = Detection.seconds_an_epoch

    def remembered(self: Detection) -> float:
        measured.append(measure(self))
        return 0.5  # what a busy machine measures is not a test's affair

    monkeypatch.setattr(Detection, "seconds_an_epoch", remembered)
    config = CONFIG.model_copy(update={"epochs": None, "budget": 1.0, "warmup_epochs": None, "close_mosaic": None})
    with pytest.raises(Interrupted):
        train(tmp_path, config=config, on_epoch=_stop_after(1))
    weights, result = train(tmp_path, config=config)
    settled = result.config
    assert isinstance(settled, TrainConfig)
    assert (settled.epochs, settled.budget, result.epochs) == (2, None, 2)
    assert len(measured) == 1
    assert 0 < measured[0] < 60
    again, repeated = train(tmp_path, config=settled)
    assert repeated.config == settled
    assert _same(weights, again)


@pytest.mark.parametrize(("poison", "after"), [(float("nan"), 0), (float("inf"), 1)])
def test_a_loss_that_is_not_finite_ends_the_training_and_leaves_nothing_to_resume(
    tmp_path: Path, poison: float, after: int
) -> None:
    model = toy_network()

    def spoil(metrics: DetectorEpoch | None) -> None:
        if (metrics.epoch if metrics else 0) == after:
            model.detector.model[0].conv.weight.data.fill_(poison)

    spoil(None)
    with pytest.raises(TrainingError, match=f"loss is (nan|inf) at step {after * STEPS_PER_EPOCH}") as error:
        train(tmp_path, model=model, on_epoch=spoil)
    assert "--lr" in error.value.remedy
    assert _files(tmp_path) == []


def test_a_hopeless_training_stops_and_leaves_nothing_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "HOPELESS_STEPS", 2 * STEPS_PER_EPOCH)
    epochs: list[DetectorEpoch] = []
    with pytest.raises(TrainingError, match=f"The model learned nothing by step {3 * STEPS_PER_EPOCH}") as error:
        train(tmp_path, config=CONFIG.model_copy(update={"lr": 1e-9, "epochs": 9}), on_epoch=epochs.append)
    assert len(epochs) == 2
    assert "--lr" in error.value.remedy
    assert _files(tmp_path) == []


def test_memory_that_runs_out_is_said_and_not_answered_with_another_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Detection, batch: dict) -> dict:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Detection, "preprocess_batch", full)
    with pytest.raises(TrainingError, match="out of memory with batch size 4") as error:
        train(tmp_path)
    assert "--batch-size" in error.value.remedy


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_without_boxes_is_refused(tmp_path: Path, split: str) -> None:
    rows = toy_rows()
    for row in SPLITS[split]:
        rows.labels[row] = np.zeros((0, 5), dtype=np.float32)
    with pytest.raises(TrainingError, match=f"{split} split have no boxes"):
        train(tmp_path, rows=rows)


def test_images_without_boxes_are_trained_on_too(tmp_path: Path) -> None:
    rows = toy_rows()
    for row in (0, 1, 2, 10):
        rows.labels[row] = np.zeros((0, 5), dtype=np.float32)
    assert train(tmp_path, rows=rows, config=CONFIG.model_copy(update={"epochs": 1}))[1].epochs == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no GPU"):
        train(tmp_path, config=CONFIG.model_copy(update={"device": "cuda"}))


def _checkpoint(path: Path, classes: int = 80) -> Path:
    """What ultralytics would have written after a training on `classes` classes."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(3)
    model = DetectionModel("yolov8n.yaml", nc=classes, verbose=False)
    torch.save({"model": model.half(), "ema": None, "train_args": {}}, path)
    return path


def test_pretrained_weights_are_started_from_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _checkpoint(Path("yolov8n.pt"))
    config = CONFIG.model_copy(update={"pretrained": "auto", "lr": 1e-12, "warmup_epochs": 0.0, "epochs": 1})
    weights, result = train(tmp_path / "fit", config=config)
    first = torch.load(path, weights_only=False)["model"].float().state_dict()["model.0.conv.weight"]
    assert torch.allclose(weights["detector.model.0.conv.weight"], first, atol=1e-6)
    assert result.config.pretrained_sha256 == sha256_of(path)  # type: ignore[attr-defined]
    assert toy_network().load_state_dict(weights)
    path.unlink()
    with pytest.raises(TrainingError, match="no pretrained weights"):
        train(tmp_path / "fit", config=result.config)  # type: ignore[arg-type]
    _checkpoint(path, classes=3)
    with pytest.raises(TrainingError, match="SHA-256"):
        train(tmp_path / "fit", config=result.config)  # type: ignore[arg-type]


class Sentinel:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("content", ["nothing", "text", "a tensor", "a program", "another network"])
def test_a_pretrained_file_that_is_no_yolo_checkpoint_is_refused_and_not_run(tmp_path: Path, content: str) -> None:
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    if content == "another network":
        from ultralytics.nn.tasks import DetectionModel

        torch.save({"model": DetectionModel("yolov8s.yaml", nc=1, verbose=False), "ema": None}, path)
    else:
        path.write_bytes(b"" if content == "nothing" else b"hello")
        if content == "a tensor":
            torch.save(torch.zeros(3), path)
        if content == "a program":
            torch.save({"model": Sentinel(str(trace))}, path)
    with pytest.raises(DataError, match=r"weights\.pt"):
        train(tmp_path / "fit", config=CONFIG.model_copy(update={"pretrained": str(path)}))
    assert not trace.exists()


def test_a_missing_pretrained_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"absent\.pt"):
        train(tmp_path, config=CONFIG.model_copy(update={"pretrained": str(tmp_path / "absent.pt")}))


@pytest.mark.parametrize(
    ("largest", "expected"), [(1, 32), (32, 32), (33, 64), (160, 160), (161, 192), (320, 320), (4000, 320)]
)
def test_the_default_canvas_holds_the_largest_image_up_to_320(largest: int, expected: int) -> None:
    assert canvas(largest) == expected


@pytest.mark.parametrize("wrong", [{"imgsz": 100}, {"epochs": 1, "budget": 1.0}, {"model": "yolo11n.yaml"}, {"lrf": 0.1}])
def test_a_wrong_configuration_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"imgsz|epochs|model|lrf"):
        TrainConfig(**wrong)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_default_recipe_finds_four_people_in_five_on_the_sample(person_sample: Path, tmp_path: Path) -> None:
    """From scratch, on the test split, by the path that serving takes."""
    use_case = load_use_case("person")
    rows = use_case.read(person_sample)
    splits, config = use_case.split(rows, 0), use_case.config(pretrained="none")
    model = use_case.build(config, use_case.preprocess(rows, splits["train"]), rows, splits["train"])
    result = use_case.fit(model, rows, splits, config, folder=tmp_path, key="k", on_epoch=lambda metrics: None)
    eager = Eager(use_case.served(model), use_case.task.outputs)
    predictions = inference.predict(use_case, eager, rows.images[splits["test"]])
    assert use_case.task.score_of(rows.labels[splits["test"]], predictions, 1).value >= 0.8
    assert result.epochs <= 20, "two minutes on an idle machine"
