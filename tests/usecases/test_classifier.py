"""The columns that drift is looked for in: named, finite, and true to images and outputs."""

import numpy as np

from openmlops.usecases.base import ModelInput, Outputs
from openmlops.usecases.classifier import features, to_model_input, to_predictions


def outputs(logits: np.ndarray, width: int = 12) -> Outputs:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    embedding = np.arange(len(logits) * width, dtype=np.float32).reshape(len(logits), width)
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    return to_predictions({"logits": logits, "probabilities": probabilities, "embedding": embedding}, images(len(logits)))


def images(n: int) -> ModelInput:
    return to_model_input(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), (32, 32))


def test_columns_are_named_by_what_they_are():
    names = list(features(images(4), outputs(np.zeros((4, 10), np.float32))))
    assert "image.brightness" in names
    assert [name for name in names if name.startswith("logprob.")] == [f"logprob.{i}" for i in range(10)]
    assert [name for name in names if name.startswith("embedding.")] == [f"embedding.{i:02d}" for i in range(12)]


def test_every_column_is_float32_and_one_value_an_image():
    columns = features(images(5), outputs(np.random.default_rng(1).normal(size=(5, 10)).astype(np.float32)))
    assert {(column.dtype.name, column.shape) for column in columns.values()} == {("float32", (5,))}


def test_log_probabilities_are_those_of_the_model():
    answered = outputs(np.random.default_rng(1).normal(size=(5, 10)).astype(np.float32))
    found = np.stack([features(images(5), answered)[f"logprob.{i}"] for i in range(10)], axis=1)
    np.testing.assert_allclose(np.exp(found), answered.predictions, rtol=1e-5)


def test_a_certain_model_has_finite_log_probabilities():
    certain = np.zeros((2, 10), np.float32)
    certain[:, 3] = 200
    columns = features(images(2), outputs(certain))
    assert columns["logprob.3"][0] == 0
    assert columns["logprob.0"][0] == -200


def test_no_images_give_empty_columns():
    assert {column.shape for column in features(images(0), outputs(np.zeros((0, 10), np.float32))).values()} == {(0,)}
