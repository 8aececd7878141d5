"""Claims about training on the features of a pretrained backbone, with a small model of timm and with the installed weights."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from openmlops.core.quality import ClassifierEpoch, EpochMetrics
from openmlops.core.types import Preprocessing
from openmlops.errors import TrainingError
from openmlops.learning import features, finetuning, linear_head, pretrained, transfer
from openmlops.learning.backbone import EMBEDDING, Backbone
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.finetuning import best_temperature
from openmlops.learning.linear_head import Features
from openmlops.learning.loop import FitData, FitResult, OnEpoch

NAME, SIDE = "test_efficientnet", 32
GREY = Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3, resize="crop")
CONFIG = FitConfig(threads=1, batch_size=16)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the small model, as a user has them in a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model(NAME, pretrained=False).state_dict(), path)
    return path


def data(seed: int = 0, images: int = 60, *, shuffled: bool = False) -> FitData:
    """Two classes of colours; the second has a third of the images."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(images + 30) < 0.25).astype(np.int64)
    colours = np.array([[70, 120, 170], [170, 120, 70]])[labels]
    pixels = np.clip(colours[:, None, None, :] + draw.normal(0, 40, (len(labels), SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    if shuffled:
        labels = draw.permutation(labels)
    return FitData(pixels[:images], labels[:images], pixels[images:], labels[images:])


def train(
    folder: Path,
    file: Path,
    found: FitData | None = None,
    config: FitConfig = CONFIG,
    on_epoch: OnEpoch = lambda metrics: None,
) -> tuple[Backbone, FitResult]:
    model = Backbone(NAME, GREY, SIDE, 2)
    weights = pretrained.find(NAME, str(file), None)
    result = transfer.fit(model, found or data(), config, weights, folder=folder / "run", key="k", on_epoch=on_epoch)
    return model, result


def losses(result: FitResult) -> list[float]:
    return [metrics.validation_loss for metrics in result.history if isinstance(metrics, ClassifierEpoch)]


class Interrupted(Exception):
    """What a callback raises here."""


@pytest.mark.parametrize("last", [1, 2])
def test_an_interrupted_fine_tuning_ends_bit_equal_to_one_left_alone(tmp_path: Path, file: Path, last: int) -> None:
    config = CONFIG.model_copy(update={"epochs": 3})

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == last:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", file, config=config, on_epoch=stop)
    alone, undisturbed = train(tmp_path / "alone", file, config=config)
    resumed, result = train(tmp_path / "stopped", file, config=config)
    assert result.resumed
    theirs = resumed.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in alone.state_dict().items())
    assert losses(undisturbed) == losses(result)
    assert len(losses(result)) == 4
    assert result.config.steps == 9  # type: ignore[attr-defined]


def test_what_validates_best_is_kept(tmp_path: Path, file: Path) -> None:
    found = data()
    for steps in (1, 12):
        model, result = train(tmp_path / str(steps), file, config=CONFIG.model_copy(update={"steps": steps}))
        shown = torch.from_numpy(found.validation_images).permute(0, 3, 1, 2)
        with torch.inference_mode():
            loss = torch.nn.functional.cross_entropy(model(shown)[0], torch.from_numpy(found.validation_labels)).item()
        assert loss == pytest.approx(min(losses(result)), rel=1e-3)


def test_a_budget_becomes_steps_that_repeat_the_training(tmp_path: Path, file: Path) -> None:
    model, result = train(tmp_path / "budget", file, config=CONFIG.model_copy(update={"budget": 5.0}))
    assert isinstance(result.config, FitConfig)
    assert result.config.budget is None
    if result.config.steps:  # a busy machine may have used up the budget for the head
        again, _ = train(tmp_path / "again", file, config=result.config)
        assert torch.equal(model.head.weight, again.head.weight)


def test_the_head_learns_and_the_same_training_gives_the_same_weights(tmp_path: Path, file: Path) -> None:
    first, result = train(tmp_path / "a", file)
    (epoch,) = result.history
    assert isinstance(epoch, ClassifierEpoch)
    assert epoch.validation_accuracy > 0.9
    second, _ = train(tmp_path / "b", file)
    theirs = second.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in first.state_dict().items())
    logits, embedding = first(torch.from_numpy(data().validation_images).permute(0, 3, 1, 2))
    accuracy = (logits.argmax(1).numpy() == data().validation_labels).mean()
    assert accuracy == pytest.approx(epoch.validation_accuracy)
    assert embedding.shape == (30, EMBEDDING)


def test_features_are_computed_once_for_each_image_and_those_damaged_again(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    make = features.engine

    def counting(model: Backbone, compute: Compute) -> features.Engine:
        run = make(model, compute)
        return lambda images: (computed.append(len(images)), run(images))[1]

    monkeypatch.setattr(features, "engine", counting)
    first, _ = train(tmp_path, file)
    assert sum(computed) == 90
    again, _ = train(tmp_path, file)
    assert sum(computed) == 90
    assert torch.equal(first.head.weight, again.head.weight)
    next((tmp_path / "features").rglob("*.npz")).write_bytes(b"damaged")
    third, _ = train(tmp_path, file)
    assert sum(computed) > 90
    assert torch.equal(first.head.weight, third.head.weight)


def test_shuffled_labels_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(TrainingError, match=r"Nothing was learned by the linear head.* by always naming the largest class"):
        train(tmp_path, file, data(shuffled=True))


def test_rare_classes_count_more_where_classes_are_uneven() -> None:
    assert transfer.class_weights(np.array([0, 0, 1]), 2).tolist() == [1, 1]
    few, many = transfer.class_weights(np.array([0] + [1] * 9), 2).tolist()
    assert few == pytest.approx(3 * many)


def test_the_head_is_that_of_an_independent_solver() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    x = draw.normal(0, 1, (80, 5)).astype(np.float32)
    y = (x[:, 0] + draw.normal(0, 1, 80) > 0).astype(np.int64)
    found = Features(torch.from_numpy(x), torch.from_numpy(y), 2)
    head = linear_head.fit(found, found, torch.ones(2), 0)
    spread = float(((x - x.mean(0)) ** 2).mean() ** 0.5)
    decay = head.strength / 5
    theirs = LogisticRegression(C=2 / (decay * 80 * spread**2), tol=1e-8, max_iter=1000).fit(x, y)
    assert np.allclose((head.weight[1] - head.weight[0]).numpy(), theirs.coef_[0], atol=0.02)


def test_weights_are_found_by_name_and_refused_with_the_other_ways(tmp_path: Path, file: Path) -> None:
    with pytest.raises(TrainingError, match=r"No weights of the backbone 'resnet18' are installed.*--weights FILE.*download"):
        pretrained.find("resnet18", "auto", None)
    with pytest.raises(TrainingError, match="There is no file"):
        pretrained.find(NAME, str(tmp_path / "none.pt"), None)
    with pytest.raises(TrainingError, match="not 0000"):
        pretrained.find(NAME, str(file), "0" * 64)
    with pytest.raises(TrainingError, match=r"'resnet1' is not a model of timm.*resnet1"):
        pretrained.named("resnet1")
    with pytest.raises(TrainingError, match=r"fits \d of the backbone's \d+ tensors"):
        Backbone("test_resnet", GREY, SIDE, 2).load(pretrained.find("test_resnet", str(file), None))


def test_a_download_without_a_network_names_the_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("unreachable")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(TrainingError, match=r"cannot be downloaded.*--weights FILE, or use tf_efficientnet_lite0"):
        pretrained.find("resnet18", "download", None)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("ran",)

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(TrainingError, match="more than weights: it would run code"):
        Backbone(NAME, GREY, SIDE, 2).load(pretrained.find(NAME, str(tmp_path / "evil.pth"), None))


def test_a_classifier_of_other_classes_in_the_file_is_left_out(tmp_path: Path) -> None:
    saved = timm.create_model(NAME, pretrained=False, num_classes=7)
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "mine.pth")
    model = Backbone(NAME, GREY, SIDE, 2)
    model.load(pretrained.find(NAME, str(tmp_path / "mine.pth"), None))
    assert torch.equal(model.body.state_dict()["conv_stem.weight"], saved.state_dict()["conv_stem.weight"])


def test_the_installed_weights_are_those_of_the_packages_own_network() -> None:
    """The package holds tensors under other names: all 296 are used, in order, and give ImageNet classes of photographs."""
    found = pretrained.find(pretrained.DEFAULT, "auto", None)
    theirs = list(torch.load(found.path, map_location="cpu", weights_only=True).values())
    model = Backbone(pretrained.DEFAULT, GREY, 224, 2)
    model.load(found)
    ours = list(model.body.state_dict().values())
    assert len(theirs) == 296
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=False))
    own = pytest.importorskip("efficientnet_lite_pytorch", reason="the package's own network is not installed")
    network = own.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(found.path, weights_only=True))
    whole = timm.create_model(pretrained.DEFAULT, pretrained=False)
    pretrained.load(whole, found, "classifier")
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(network.eval()(pixels), whole.eval()(pixels))


def test_temperature_puts_right_how_certain_the_logits_are() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 3, generator=draw) * 2
    truth = torch.distributions.Categorical(logits=logits).sample()
    loss, temperature = best_temperature(logits * 3, truth)
    assert temperature == pytest.approx(3, rel=0.15)
    assert loss <= torch.nn.functional.cross_entropy(logits, truth).item()


def test_a_fine_tuning_ends_when_validation_gains_nothing_and_says_what_is_kept(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finetuning, "LR", 0.0)
    monkeypatch.setattr(finetuning, "best_temperature", lambda logits, truth: (1.0, 1.0))
    head, _ = train(tmp_path / "head", file)
    model, result = train(tmp_path / "tuned", file, config=CONFIG.model_copy(update={"epochs": 40}))
    assert len(result.history) == 1 + finetuning.PATIENCE
    assert result.kept.startswith("a linear head on the frozen backbone (validation loss 0.")
    assert torch.equal(head.head.weight, model.head.weight)
    said = capsys.readouterr().err
    assert "Fine-tuning: 40 epochs of 3 steps, about " in said
    assert f"the best of {finetuning.PATIENCE} epochs of fine-tuning had validation loss 1.000" in said


def test_layers_that_would_hardly_move_stay_as_they_are(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "FROZEN", 0.6)
    monkeypatch.setattr(finetuning, "best_temperature", lambda logits, truth: (0.0, 1.0))
    head, _ = train(tmp_path / "head", file)
    tuned, result = train(tmp_path / "tuned", file, config=CONFIG.model_copy(update={"steps": 3}))
    assert result.kept.startswith("epoch 2 of 2, fine-tuned")
    before, after = head.body.state_dict(), tuned.body.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "conv_head.weight" in changed
    assert "conv_stem.weight" not in changed
