"""Claims about the training loop: kills leave no trace in the result, hopeless trainings stop, a budget is kept."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import CONFIG, STEPS_PER_EPOCH, ToyNetwork, toy_data, train, train_and_die

from forks import FORKS
from openmlops.core.quality import EpochMetrics
from openmlops.errors import TrainingError
from openmlops.learning import loop
from openmlops.learning.config import FitConfig
from openmlops.learning.loop import FitResult

MOMENTS = ("step", "written", "saved", "reported")


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def _killed_in_a_process(folder: Path, epoch: int, moment: str) -> int | None:
    process = FORKS.Process(target=train_and_die, args=(folder, epoch, moment))
    process.start()
    process.join(600)
    exit_code: int | None = process.exitcode
    return exit_code


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_training_killed_again_and_again_ends_bit_equal_to_one_left_alone(tmp_path: Path, kills: int) -> None:
    for kill in range(kills):
        assert _killed_in_a_process(tmp_path / "killed", kill + 1, MOMENTS[kill % 4]) == -signal.SIGKILL
    (alone, undisturbed), (killed, resumed) = train(tmp_path / "alone"), train(tmp_path / "killed")
    assert resumed.resumed
    assert not undisturbed.resumed
    assert _same(alone, killed)
    assert _epochs(undisturbed) == _epochs(resumed)
    assert len(resumed.history) == 12
    assert not list((tmp_path / "killed").glob("*.pt"))


def _epochs(result: FitResult) -> list[dict[str, object]]:
    return [metrics.model_dump(exclude={"seconds"}) for metrics in result.history]


class Interrupted(Exception):
    """What a callback raises in these tests: not the training's own failure, so that its checkpoint stays."""


def _stop_after(epoch: int):
    def on_epoch(metrics: EpochMetrics) -> None:
        if metrics.epoch == epoch:
            raise Interrupted

    return on_epoch


def test_an_interrupted_training_is_resumed_by_the_same_key_only(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, on_epoch=_stop_after(3))
    assert not train(tmp_path, key="other data")[1].resumed
    assert not train(tmp_path, config=CONFIG.model_copy(update={"threads": 2}))[1].resumed
    reported: list[int] = []
    result = train(tmp_path, on_epoch=lambda metrics: reported.append(metrics.epoch))[1]
    assert result.resumed
    assert reported == list(range(4, 13))
    assert [metrics.epoch for metrics in result.history] == list(range(1, 13))


def test_a_finished_training_leaves_no_checkpoint_and_is_not_resumed(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    assert _files(tmp_path) == []
    second, result = train(tmp_path)
    assert not result.resumed
    assert _same(first, second)


def test_the_same_training_at_the_same_time_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    refused: list[str] = []

    def again(metrics: EpochMetrics) -> None:
        with pytest.raises(TrainingError) as error:
            train(tmp_path)
        refused.append(str(error.value))

    weights, result = train(tmp_path, on_epoch=again)
    assert len(refused) == result.epochs
    assert "is running this training" in refused[0]
    assert _same(weights, train(tmp_path / "alone")[0])


def test_a_truncated_checkpoint_is_named_and_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, on_epoch=_stop_after(2))
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=file.name):
        train(tmp_path)


@pytest.mark.parametrize(
    ("model", "learnable", "change", "says"),
    [
        (ToyNetwork(float("nan")), True, {}, "loss is nan at step 0"),
        (ToyNetwork(float("inf")), True, {}, "loss is nan at step 0"),
        (None, True, {"lr": 1e4, "other_lr": 1e4}, "loss is nan at step [0-9] .learning rate 9"),
        (None, True, {"lr": 1e-9, "other_lr": 1e-9}, "The model learned nothing"),
        (None, False, {}, "The model learned nothing"),
        (ToyNetwork(0.0), True, {}, "The model learned nothing"),
    ],
    ids=["nan", "infinite", "learning rate too high", "learning rate too low", "unlearnable labels", "constant answer"],
)
def test_a_hopeless_training_stops_at_two_thirds_of_its_steps_and_leaves_nothing_to_resume(
    tmp_path: Path, model: ToyNetwork | None, learnable: bool, change: dict, says: str
) -> None:
    epochs: list[EpochMetrics] = []
    steps: list[int] = []
    with pytest.raises(TrainingError, match=says) as error:
        train(
            tmp_path,
            model=model,
            data=toy_data(2000, learnable=learnable),
            config=CONFIG.model_copy(update=change),
            on_epoch=epochs.append,
            on_step=lambda progress: steps.append(progress.step),
        )
    assert len(epochs) <= 7
    assert len(steps) <= 320
    assert "--lr" in error.value.remedy
    assert _files(tmp_path) == []


def test_collapse_in_a_later_epoch_removes_the_checkpoint(tmp_path: Path) -> None:
    model = ToyNetwork()

    def poison(metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            model.factor = float("nan")

    with pytest.raises(TrainingError, match=f"nan at step {2 * STEPS_PER_EPOCH}"):
        train(tmp_path, model=model, on_epoch=poison)
    assert _files(tmp_path) == []


def test_a_budget_becomes_steps_once_and_the_steps_repeat_the_training_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, measure = [], loop._Training._seconds_a_step

    def remembered(self: loop._Training, size: int) -> float:
        measured.append(measure(self, size))
        return 0.1  # what a busy machine measures is not a test's affair

    monkeypatch.setattr(loop._Training, "_seconds_a_step", remembered)
    weights, result = train(tmp_path, config=CONFIG.model_copy(update={"epochs": None, "budget": 2.0}))
    assert min(measured) > 0
    assert isinstance(result.config, FitConfig)
    assert (result.config.budget, result.config.epochs, result.config.steps) == (None, None, 20)
    again, repeated = train(tmp_path, config=result.config)
    assert repeated.config == result.config
    assert _same(weights, again)


def test_a_resumed_budget_keeps_the_steps_it_was_given_first(tmp_path: Path) -> None:
    totals: list[int] = []
    config = CONFIG.model_copy(update={"epochs": None, "budget": 0.5})
    with pytest.raises(Interrupted):
        train(tmp_path, config=config, on_epoch=_stop_after(1), on_step=lambda progress: totals.append(progress.total))
    result = train(tmp_path, config=config, on_step=lambda progress: totals.append(progress.total))[1]
    assert len(set(totals)) == 1
    assert result.config.steps == totals[0]  # type: ignore[attr-defined]


def test_a_fraction_of_an_epoch_is_a_number_of_steps(tmp_path: Path) -> None:
    _, result = train(tmp_path, config=CONFIG.model_copy(update={"epochs": 2.5}))
    assert result.config.steps == 25  # type: ignore[attr-defined]
    assert result.epochs == 3


def test_images_can_be_smaller_in_the_first_share_of_the_steps(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watching(ToyNetwork):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if self.training:
                seen.append(images.shape[-1])
            return super().forward(images)

    train(tmp_path, model=Watching(), config=CONFIG.model_copy(update={"epochs": 2, "small_share": 0.5, "small_size": 6}))
    assert seen == [6] * STEPS_PER_EPOCH + [8] * STEPS_PER_EPOCH


def test_the_process_keeps_its_own_threads_kernels_and_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed()
    train(tmp_path, config=CONFIG.model_copy(update={"threads": 3, "epochs": 1}))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed()) == before


def test_progress_counts_to_the_total_and_learning_is_measured(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    _, result = train(tmp_path, on_step=lambda progress: steps.append((progress.step, progress.total)))
    assert steps == [(step, 120) for step in range(1, 121)]
    assert result.history[-1].validation_accuracy > 0.9
    assert result.history[-1].loss < result.history[0].loss
    assert np.isclose(result.seconds, sum(metrics.seconds for metrics in result.history))


def test_bfloat16_is_the_same_code_and_learns_too(tmp_path: Path) -> None:
    _, result = train(tmp_path, config=CONFIG.model_copy(update={"precision": "bfloat16"}))
    assert result.history[-1].validation_accuracy > 0.9


class _Plain(nn.Module):
    """Each image's answer depends on that image alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filters, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.filters(images.float() / 255).relu().mean((2, 3))
        return self.head(embedding), embedding


def test_a_batch_whose_layers_are_large_takes_the_same_step_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, result = train(tmp_path / "whole", model=_Plain())
    monkeypatch.setattr(loop, "LAYER_PIXELS", 20 * 8 * 8)
    rows: list[int] = []
    model = _Plain()
    model.register_forward_hook(lambda module, given, _: rows.append(len(given[0])) if module.training else None)
    parts, also = train(tmp_path / "parts", model=model)
    assert set(rows) == {17, 16}  # 50 in three parts
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, rtol=1e-3, atol=1e-4)
    assert also.history[-1].loss == pytest.approx(result.history[-1].loss, rel=1e-3)
