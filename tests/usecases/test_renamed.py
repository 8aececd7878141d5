"""A use case module written with the names of before goes on working, and each old name says once what it is called now."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from openmlops.learning.export import Eager
from openmlops.usecases import base, classifier

ROOT = Path(__file__).parents[2]
OLD_NAMES = {"lazy": "on_call", "LazyFunction": "OnCall", "to_model_input": "show", "to_predictions": "answer"}
ANSWER = '''

def answer(tensors, shown: Shown):
    """As somebody wrote it: the old field, given by its old name."""
    outputs = classifier.answer(tensors, shown)
    return Outputs(answers=outputs.answers, embedding=outputs.embedding, tensors=outputs.tensors)

'''


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, list[str]]]:
    """`examples/digits.py` with the old names, imported, and what it was warned of."""
    text = (ROOT / "examples/digits.py").read_text(encoding="utf-8")
    for new, name in OLD_NAMES.items():
        text = text.replace(new, name)
    text = text.replace("import Rows, UseCase", "import Outputs, Rows, Shown, UseCase")
    text = text.replace("answer=classifier.answer", "answer=answer").replace("\n\nserved:", ANSWER + "served:")
    (tmp_path / "digits_of_before.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield importlib.import_module("digits_of_before"), caught  # type: ignore[misc]
    monkeypatch.delitem(sys.modules, "digits_of_before")


def test_a_use_case_with_the_old_names_predicts_and_names_the_new_ones_once(old, tmp_path):
    (module, caught), train = old, np.arange(100)
    use_case = module.USE_CASE
    assert isinstance(use_case, base.UseCase)
    rows = use_case.read(use_case.sample(tmp_path))
    network = use_case.build(use_case.config(), use_case.preprocess(rows, train), rows, train)
    model_input = use_case.to_model_input(rows.images[:4], (16, 16))
    tensors = Eager(use_case.served(network), use_case.task.outputs).run(model_input.pixels)
    for _ in range(3):
        outputs = use_case.to_predictions(tensors, model_input)
    assert outputs.predictions.shape == (4, 10)
    np.testing.assert_allclose(outputs.predictions.sum(axis=1), 1, atol=1e-5)
    assert "embedding.00" in use_case.features(model_input, outputs)
    told = [str(warning.message) for warning in caught if warning.category is FutureWarning]
    assert sorted(told) == [
        "Outputs(answers=) is called predictions now; the old name will go",
        "Outputs.answers is called predictions now; the old name will go",
        "UseCase(answer=) is called to_predictions now; the old name will go",
        "UseCase(show=) is called to_model_input now; the old name will go",
        "openmlops.usecases.base.Shown is called ModelInput now; the old name will go",
        "openmlops.usecases.base.on_call is called lazy now; the old name will go",
        "openmlops.usecases.classifier.answer is called to_predictions now; the old name will go",
        "openmlops.usecases.classifier.show is called to_model_input now; the old name will go",
    ]
    assert {Path(warning.filename).name for warning in caught if warning.category is FutureWarning} == {"digits_of_before.py"}


def test_the_old_fields_can_be_read_and_replaced(old):
    use_case = old[0].USE_CASE
    assert use_case.show is classifier.to_model_input
    assert replace(use_case, answer=classifier.to_predictions).to_predictions is classifier.to_predictions


def test_a_name_that_never_was_is_an_ordinary_error():
    with pytest.raises(AttributeError, match=r"module 'openmlops.usecases.base' has no attribute 'Schown'"):
        _ = base.Schown  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="schow"):
        base.Outputs(schow=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("core.gate:decide", "core.gate.rules:decide"),
        ("core.drift:measure", "core.monitoring.drift:measure"),
        ("core.drift_reference:calibrate", "core.monitoring.drift_reference:calibrate"),
        ("core.policy:Policy", "core.monitoring.policy:Policy"),
        ("operations.tables:ledger", "operations.monitoring.frames:ledger"),
        ("operations.labelling:give", "operations.labelling.queue:submit_label"),
        ("operations.labelling:image_of", "operations.labelling.queue:image_of"),
    ],
)
def test_a_module_that_moved_is_found_under_its_old_name_which_warns(old: str, new: str) -> None:
    (module, name), (place, current) = old.split(":"), new.split(":")
    with pytest.warns(FutureWarning, match=f"{module}.{name} is called openmlops.{place}.{current}"):
        found = getattr(importlib.import_module(f"openmlops.{module}"), name)
    assert found is getattr(importlib.import_module(f"openmlops.{place}"), current)


def test_what_a_moved_module_never_had_is_no_name_of_it() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        importlib.import_module("openmlops.core.drift").nothing  # noqa: B018
