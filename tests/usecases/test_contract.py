"""The contract of a use case: a tiny set goes from bytes to a served prediction and a drift report.

A new use case is done when it is in USE_CASES and this passes; `examples/digits.py` shows one that is not built in,
`shapes` one as `openmlops init` makes them.
"""

import io
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from drawn_people import drawn
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.images.boxes import objects
from openmlops.core.monitoring.drift import measure
from openmlops.core.monitoring.drift_reference import calibrate
from openmlops.errors import DataError
from openmlops.images.lazy import Images, pixels
from openmlops.learning.export import Eager, export
from openmlops.operations.release import inference
from openmlops.usecases.base import load_use_case

USE_CASES = {
    "cifar10": {"epochs": 2, "channels": "16-32", "stem_stride": 2},
    "person": {"epochs": 2, "imgsz": 64},
    "examples.digits:USE_CASE": {"epochs": 2},
    "tests.shapes:USE_CASE": {"epochs": 2},
}
"""with what is enough training for a test"""
MOST = 200
"""images of a use case that are trained on here"""


@pytest.fixture(scope="module", params=USE_CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The use case, taken from its sample to its exported model once."""
    if request.param == "person" and find_spec("ultralytics") is None:
        pytest.skip("training the person detector needs the extra `yolo`")
    folder = tmp_path_factory.mktemp("contract")
    use_case = load_use_case(request.param)
    data = drawn(tmp_path_factory) if request.param == "person" else use_case.sample(folder / use_case.folder)
    rows = use_case.read(data)
    splits = use_case.split(rows, 0)
    few = {**splits, "train": splits["train"][:MOST]} if use_case.task.kind == "classification" else _few(splits)
    preprocessing = use_case.preprocess(rows, few["train"])
    config = use_case.config(**USE_CASES[request.param], threads=1)
    model = use_case.build(config, preprocessing, rows, few["train"])
    epochs: list[object] = []
    result = use_case.fit(model, rows, few, config, folder=folder / "fit", key="k", on_epoch=epochs.append)
    served, task = use_case.served(model), use_case.task
    resize = use_case.resolve(config, preprocessing)[1].resize
    golden = use_case.model_input(rows.images[splits["validation"][:8]], served.image_shape[:2], resize).pixels
    export(served, task.outputs, task.compared, folder / "export", golden, 1e-4)
    onnx = OnnxModel(folder / "export" / "model.onnx", task.outputs, resize=resize)
    eager = Eager(served, task.outputs)
    return SimpleNamespace(
        use_case=use_case, data=data, rows=rows, splits=splits, epochs=epochs, onnx=onnx, eager=eager, result=result
    )


def _few(splits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Enough for an epoch of a detector in a test."""
    return {**splits, "train": splits["train"][:16], "validation": splits["validation"][:8]}


def test_the_sample_passes_its_own_checks(made: SimpleNamespace) -> None:
    problems, counts = made.use_case.check(made.data)
    assert [problem for problem in problems if problem.blocking] == []
    assert set(counts) == set(made.rows.names)
    assert all(counts.values())


def test_the_splits_share_no_image_and_the_test_split_is_the_publishers(made: SimpleNamespace) -> None:
    content = {name: {made.rows.images[row].tobytes() for row in rows} for name, rows in made.splits.items()}
    assert not content["train"] & content["test"]
    assert not content["train"] & content["validation"]
    assert not content["validation"] & content["test"]
    assert np.array_equal(made.splits["test"], np.flatnonzero(made.rows.test))


def test_the_same_seed_gives_the_same_splits_and_another_seed_others_unless_validation_is_fixed(made: SimpleNamespace) -> None:
    again, other = made.use_case.split(made.rows, 0), made.use_case.split(made.rows, 1)
    assert all(np.array_equal(made.splits[name], again[name]) for name in made.splits)
    assert np.array_equal(made.splits["validation"], other["validation"]) == (made.rows.validation is not None)


def test_training_reports_each_epoch_and_settles_its_configuration(made: SimpleNamespace) -> None:
    assert [metrics.epoch for metrics in made.epochs] == [1, 2]
    assert made.result.history == tuple(made.epochs)
    assert type(made.result.config) is made.use_case.config


def test_an_image_is_answered_alike_from_bytes_and_from_memory(made: SimpleNamespace) -> None:
    image = made.rows.images[made.splits["test"][0]]
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    decoded = made.use_case.decode(png.getvalue())
    assert np.array_equal(decoded, image)
    (from_bytes,) = inference.predict(made.use_case, made.onnx, objects([decoded]) if _is_ragged(made) else decoded[None])
    (from_memory,) = inference.predict(made.use_case, made.onnx, made.rows.images[made.splits["test"][:1]])
    assert np.array_equal(from_bytes, from_memory)


def _is_ragged(made: SimpleNamespace) -> bool:
    return made.use_case.frame is None and made.use_case.files is not None


def test_the_exported_model_answers_as_the_trained_one_through_the_same_path(made: SimpleNamespace) -> None:
    images = made.rows.images[made.splits["test"][:20]]
    ours, theirs = (inference.predict(made.use_case, model, images) for model in (made.onnx, made.eager))
    for exported, trained in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(exported, trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rubbish", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_refused(made: SimpleNamespace, rubbish: bytes) -> None:
    with pytest.raises(DataError):
        made.use_case.decode(rubbish)


def test_the_exported_model_is_evaluated_on_the_test_split(made: SimpleNamespace) -> None:
    test, task = made.splits["test"], made.use_case.task
    predictions = inference.predict(made.use_case, made.onnx, made.rows.images[test])
    found = task.evaluate(made.rows.labels[test], predictions, made.rows.names, "test", "f" * 64)
    name, interval = found.headline()
    assert name == task.score
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert found.n == len(test)
    assert interval == task.score_of(made.rows.labels[test], predictions, len(made.rows.names))
    assert f"test_{name}" in {f"test_{metric}" for metric in found.metrics()}


def test_answers_and_labels_come_back_from_the_log_and_from_a_table_as_they_were(made: SimpleNamespace) -> None:
    task, rows = made.use_case.task, made.splits["test"][:10]
    labels, predictions = made.rows.labels[rows], inference.predict(made.use_case, made.onnx, made.rows.images[rows])
    logged = task.unpack(task.pack(predictions), len(made.rows.names))
    tabled = task.from_columns(task.columns(predictions, made.rows.names), made.rows.names)
    told = [task.read_label(task.as_feedback(label, made.rows.names), made.rows.names) for label in labels]
    for index in range(len(rows)):
        np.testing.assert_array_equal(logged[index], predictions[index])
        np.testing.assert_allclose(tabled[index], predictions[index], atol=1e-3)
        np.testing.assert_allclose(task.labels(told)[index], labels[index], atol=1e-3)
    assert task.renamed(told[0], made.rows.names, made.rows.names) == told[0]


def test_a_window_of_test_images_is_measured_and_a_dark_one_is_found(made: SimpleNamespace) -> None:
    def frame(images: Images) -> dict[str, np.ndarray]:
        return inference.predict_with_features(made.use_case, made.onnx, images)[1]

    reference = calibrate(frame(made.rows.images[made.splits["validation"]]), sizes=(50,), seed=0)
    window = pixels(made.rows.images[made.splits["test"][:60]])
    dark = objects([image // 3 for image in window]) if _is_ragged(made) else window // 3
    assert measure(frame(window), reference).outcome in ("drift", "no_drift")
    assert measure(frame(dark), reference).outcome == "drift"


def test_the_server_can_load_each_without_torch() -> None:
    """Importing a use case must not import what the server's image does not have."""
    code = (
        f"import sys; from openmlops.usecases.base import load_use_case; [load_use_case(name) for name in {[*USE_CASES]}];"
        "print([name for name in ('torch', 'zenml', 'ultralytics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr


def test_onnx_is_asked_with_its_own_contract(made: SimpleNamespace) -> None:
    assert isinstance(made.onnx, OnnxModel)
    assert made.onnx.image_shape == made.eager.image_shape
