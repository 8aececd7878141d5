"""The contract of a use case: a tiny set goes from bytes to a served prediction and a drift report.

A new use case is done when it is in USE_CASES and this passes.
"""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.drift import measure
from openmlops.core.drift_reference import calibrate
from openmlops.errors import DataError
from openmlops.learning.loop import FitData
from openmlops.usecases.base import BUILT_IN, load_use_case

USE_CASES = BUILT_IN


@pytest.fixture(scope="module", params=USE_CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The use case, taken from its sample to its exported model once."""
    folder = tmp_path_factory.mktemp(request.param)
    use_case = load_use_case(request.param)
    data = use_case.sample(folder / use_case.folder)
    rows = use_case.read(data)
    splits = use_case.split(rows, 0)
    preprocessing = use_case.preprocess(rows, splits["train"])
    config = use_case.config(epochs=2)
    model = use_case.build(config, preprocessing, rows, splits["train"])
    train, validation = splits["train"], splits["validation"]
    fit_data = FitData(rows.images[train], rows.labels[train], rows.images[validation], rows.labels[validation])
    epochs: list[object] = []
    use_case.fit(model, fit_data, config, folder=folder / "fit", key="k", on_epoch=epochs.append)
    use_case.export(model, folder / "export", rows.images[validation][:16], 1e-4)
    onnx = OnnxModel(folder / "export" / "model.onnx")
    return SimpleNamespace(use_case=use_case, data=data, rows=rows, splits=splits, epochs=epochs, onnx=onnx)


def test_the_sample_passes_its_own_checks(made: SimpleNamespace) -> None:
    problems, counts = made.use_case.check(made.data)
    assert [problem for problem in problems if problem.blocking] == []
    assert sum(counts.values()) == len(made.rows.labels)


def test_the_splits_share_no_image_and_the_test_split_is_the_publishers(made: SimpleNamespace) -> None:
    content = {name: {made.rows.images[row].tobytes() for row in rows} for name, rows in made.splits.items()}
    assert not content["train"] & content["test"]
    assert not content["train"] & content["validation"]
    assert not content["validation"] & content["test"]
    assert np.array_equal(made.splits["test"], np.flatnonzero(made.rows.test))


def test_the_same_seed_gives_the_same_splits_and_another_seed_others(made: SimpleNamespace) -> None:
    again, other = made.use_case.split(made.rows, 0), made.use_case.split(made.rows, 1)
    assert all(np.array_equal(made.splits[name], again[name]) for name in made.splits)
    assert not np.array_equal(made.splits["validation"], other["validation"])


def test_training_reports_each_epoch(made: SimpleNamespace) -> None:
    assert [metrics.epoch for metrics in made.epochs] == [1, 2]


def test_an_image_is_answered_alike_from_bytes_and_from_memory(made: SimpleNamespace) -> None:
    image = made.rows.images[made.splits["test"][0]]
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    decoded = made.use_case.decode(png.getvalue())
    assert np.array_equal(decoded, image)
    served = made.use_case.predict(made.onnx.run(decoded[None]))
    assert served.probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rubbish", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_image_is_refused(made: SimpleNamespace, rubbish: bytes) -> None:
    with pytest.raises(DataError):
        made.use_case.decode(rubbish)


def test_the_exported_model_is_evaluated_on_the_test_split(made: SimpleNamespace) -> None:
    test = made.splits["test"]
    outputs = made.use_case.predict(made.onnx.run(made.rows.images[test]))
    found = made.use_case.evaluate(made.rows.labels[test], outputs.probabilities, made.rows.names, "test", "f" * 64)
    name, interval = found.headline()
    assert name
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert found.n == len(test)


def test_a_window_of_test_images_is_measured_and_a_dark_one_is_found(made: SimpleNamespace) -> None:
    def frame(images: np.ndarray) -> dict[str, np.ndarray]:
        return made.use_case.features(images, made.use_case.predict(made.onnx.run(images)))

    reference = calibrate(frame(made.rows.images[made.splits["validation"]]), seed=0)
    window = made.rows.images[made.splits["test"][:150]]
    assert measure(frame(window), reference).outcome in ("drift", "no_drift")
    assert measure(frame(window // 3), reference).outcome == "drift"
