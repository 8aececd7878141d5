"""Claims about the CIFAR-10 network and its recipes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from openmlops.core.quality import EpochMetrics
from openmlops.core.types import Preprocessing
from openmlops.usecases import classifier
from openmlops.usecases.base import Rows
from openmlops.usecases.cifar10 import data, model
from openmlops.usecases.cifar10.recipe import TrainConfig
from openmlops.usecases.cifar10.sample import sample

PREPROCESSING = Preprocessing(mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))
CONFIG = TrainConfig(epochs=3, channels="4-8-8", batch_size=40, threads=1)


def _rows(images: int = 200, classes: int = 3) -> Rows:
    """Smooth random images, brighter for higher classes."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, images)
    coarse = draw.integers(0, 120, (images, 8, 8, 3)) + 40 * labels[:, None, None, None]
    pixels = coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    return Rows(pixels, labels, tuple("abcdefghij"[:classes]), np.zeros(images, bool))


def _batch(rows: Rows, n: int = 20) -> torch.Tensor:
    return torch.from_numpy(rows.images[:n]).permute(0, 3, 1, 2)


SPLITS = {"train": np.arange(150), "validation": np.arange(150, 200)}


def _built(config: TrainConfig = CONFIG, rows: Rows | None = None) -> model.Network:
    rows = rows or _rows()
    return model.build(config, PREPROCESSING, rows, np.arange(150)).eval()


def test_raw_pixels_go_in_as_bytes_or_floats_and_normalisation_is_the_first_layer() -> None:
    network, images = _built(), _batch(_rows())
    assert next(network.children()) is network.normalize
    expected = (images.float() - torch.tensor([120.0, 110.0, 100.0]).view(3, 1, 1)) / torch.tensor([60.0, 50, 40]).view(3, 1, 1)
    torch.testing.assert_close(network.normalize(images), expected)
    torch.testing.assert_close(network(images), network(images.float()))


def test_there_is_one_logit_for_each_class_name_and_one_embedding_for_each_image() -> None:
    logits, embedding = _built(rows=_rows(classes=7))(_batch(_rows()))
    assert logits.shape == (20, 7)
    assert embedding.shape == (20, 8)


def test_the_first_layer_whitens_the_patches_of_the_training_images() -> None:
    rows = _rows()
    network = _built(rows=rows)
    predictions = network.whiten(network.normalize(_batch(rows, 150))).transpose(0, 1).flatten(1)
    strong = predictions[:12] @ predictions[:12].T / predictions.shape[1]
    assert (strong - torch.diag(strong.diag())).abs().max() < 0.01
    assert 0.5 < strong.diag()[-3:].min() <= strong.diag()[-3:].max() < 1.05
    torch.testing.assert_close(predictions[:12], -predictions[12:])
    assert not network.whiten.weight.requires_grad


def test_the_weights_travel_as_safetensors(tmp_path: Path) -> None:
    rows = _rows()
    network = _built()
    model.fit(network, rows, SPLITS, CONFIG, folder=tmp_path, key="k", on_epoch=lambda metrics: None)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    other = _built(CONFIG.model_copy(update={"seed": 1}))
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    torch.testing.assert_close(other(_batch(rows)), network(_batch(rows)), rtol=0, atol=0)


def test_the_seed_alone_decides_the_first_weights() -> None:
    torch.manual_seed(1)
    one = _built().state_dict()
    torch.manual_seed(2)
    again, other = _built().state_dict(), _built(CONFIG.model_copy(update={"seed": 1})).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_an_interrupted_training_of_the_real_network_ends_bit_equal(tmp_path: Path) -> None:
    def stop(metrics: EpochMetrics) -> None:
        raise KeyboardInterrupt

    rows, weights = _rows(), {}
    for name in ("alone", "interrupted"):
        if name == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                model.fit(_built(), rows, SPLITS, CONFIG, folder=tmp_path / name, key="k", on_epoch=stop)
        network = _built()
        result = model.fit(network, rows, SPLITS, CONFIG, folder=tmp_path / name, key="k", on_epoch=lambda metrics: None)
        assert result.resumed == (name == "interrupted")
        weights[name] = network.state_dict()
    assert all(torch.equal(weights["alone"][key], weights["interrupted"][key]) for key in weights["alone"])


def test_the_result_carries_a_configuration_with_nothing_left_open(tmp_path: Path) -> None:
    rows = _rows()
    result = model.fit(_built(), rows, SPLITS, CONFIG, folder=tmp_path, key="k", on_epoch=lambda metrics: None)
    config = result.config
    assert isinstance(config, TrainConfig)
    assert {name for name, value in config if value is None} == {"epochs", "budget"}
    assert (config.steps, config.threads, config.channels) == (9, 1, "4-8-8")
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert all(isinstance(value, int | float | str | bool | None) for value in config.model_dump().values())


def test_a_longer_budget_has_a_larger_network_and_a_choice_of_the_user_stays() -> None:
    def weights(config: TrainConfig) -> int:
        return sum(weight.numel() for weight in _built(config).parameters())

    sizes = [weights(TrainConfig(budget=budget, device="cpu")) for budget in (60, 180, 600)]
    assert sizes == sorted(set(sizes))
    chosen = TrainConfig(budget=600, lr=0.05, channels="4-8-8", device="cpu").resolved(45_000, "cpu")
    assert (chosen.lr, chosen.channels) == (0.05, "4-8-8")
    assert chosen.batch_size is not None
    assert chosen.resolved(45_000, "cpu") == chosen


def test_fewer_images_are_seen_more_often_by_default() -> None:
    few, many = (TrainConfig().resolved(images, "cpu").epochs or 0 for images in (3_000, 45_000))
    assert few > 2 * many
    assert TrainConfig(steps=7).resolved(3_000, "cpu").epochs is None


@pytest.mark.parametrize("fields", [{"epochs": 0}, {"lr": -1}, {"channels": "wide"}, {"epochs": 1, "budget": 60}, {"width": 3}])
def test_a_configuration_that_means_nothing_is_refused(fields: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        TrainConfig(**fields)


@pytest.mark.slow
def test_the_default_recipe_learns_the_sample_to_more_than_nine_in_ten(tmp_path: Path) -> None:
    rows = data.read(sample(tmp_path / "sample"))
    splits = classifier.split(rows, 0)
    train, test = splits["train"], splits["test"]
    network = model.build(TrainConfig(), classifier.preprocess(rows, train), rows, train)
    model.fit(network, rows, splits, TrainConfig(), folder=tmp_path / "fit", key="k", on_epoch=lambda metrics: None)
    with torch.inference_mode():
        predictions = network(torch.from_numpy(rows.images[test]).permute(0, 3, 1, 2))[0].argmax(1).numpy()
    assert np.mean(predictions == rows.labels[test]) > 0.9


def test_every_number_may_be_given_as_text_as_the_command_line_does() -> None:
    numbers = TrainConfig(steps=1).resolved(4200, "cpu").model_dump(exclude_none=True)
    assert TrainConfig(**{name: str(value) for name, value in numbers.items()}).model_dump(exclude_none=True) == numbers
    with pytest.raises(ValidationError):
        TrainConfig(stem_stride="3")
