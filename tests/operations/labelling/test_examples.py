"""Which images stand for a window and for the version that answered them, and how the page's part shows them."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from starlette.testclient import TestClient

from openmlops.adapters.decisions import DecisionRecord, Span
from openmlops.adapters.inference_log import Entries
from openmlops.console.app import create_app
from openmlops.core.types import ModelRef
from openmlops.operations.labelling.examples import N_FARTHEST, N_RANDOM, N_REFERENCE, Examples, examples
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.workspace import Workspace
from small_loop import NOON, fresh_images, label, send


@pytest.fixture
def model(loop: Workspace) -> ModelRef:
    return load_latest_model(loop)


def judged(loop: Workspace, model: ModelRef, n: int, until: datetime, id_: str = "first") -> None:
    """Let a decision rest on the n answers until then."""
    span = Span(source="log", anchor=until, until=until, n=n)
    told = {"model": model.name, "version": model.version, "at": until, "reasons": (), "by": "test", "action": "nothing"}
    loop.decisions.append(DecisionRecord(id=id_, span=span, **told))


def chosen(loop: Workspace, model: ModelRef) -> Examples:
    return examples(loop, model.name, model.version)


def test_examples_are_of_the_judged_window_and_the_same_each_time(loop: Workspace, model: ModelRef):
    ids = send(loop, model, fresh_images(40, 1)[0])
    judged(loop, model, 40, NOON + timedelta(seconds=39))
    send(loop, model, fresh_images(40, 2)[0], NOON + timedelta(hours=1))
    found = chosen(loop, model)
    assert (found.decision, found.n, found.kept, found.missing) == ("first", 40, 40, ())
    shown = {each.prediction for each in (*found.drawn, *found.farthest)}
    assert shown <= set(ids)
    assert (len(found.drawn), len(found.farthest), len(found.reference)) == (N_RANDOM, N_FARTHEST, N_REFERENCE)
    assert [each.prediction for each in chosen(loop, model).drawn] == [each.prediction for each in found.drawn]
    judged(loop, model, 40, NOON + timedelta(seconds=39), "second")
    assert [each.prediction for each in chosen(loop, model).drawn] != [each.prediction for each in found.drawn]


def test_the_farthest_images_are_those_that_no_training_knew(loop: Workspace, model: ModelRef):
    send(loop, model, fresh_images(40, 1)[0])
    strange = np.random.default_rng(0).integers(0, 256, (N_FARTHEST, 32, 32, 3), dtype=np.uint8)
    ids = send(loop, model, strange, NOON + timedelta(seconds=40))
    assert {each.prediction for each in chosen(loop, model).farthest} == set(ids)


def test_reference_images_are_the_versions_own_with_what_it_answers(loop: Workspace, model: ModelRef):
    with np.load(loop.registry.fetch(model) / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    for each in chosen(loop, model).reference:
        (row,) = [row for row, image in enumerate(images) if np.array_equal(image, each.image)]
        assert np.array_equal(each.predicted, probabilities[row])


def test_what_is_not_there_is_said_to_be_missing(loop: Workspace, model: ModelRef):
    assert chosen(loop, model).missing[0] == "This version has made no predictions yet."
    ids = send(loop, model, fresh_images(10, 1)[0])
    logged = loop.inference_log.named(model.name, ids)
    for sha256 in logged.input_sha256[:3]:
        loop.inputs.path(sha256).unlink()
    found = chosen(loop, model)
    assert found.missing == (
        "No window was evaluated yet: these images are from the latest 10 predictions.",
        "3 of 10 images are not stored on this machine, or no longer.",
    )
    assert not {each.prediction for each in (*found.drawn, *found.farthest)} & set(logged.ids[:3])


def test_without_the_versions_files_its_answers_are_shown_all_the_same(loop: Workspace, model: ModelRef):
    found = loop.inference_log.named(model.name, send(loop, model, fresh_images(5, 1)[0]))
    ids = [f"99-{name}" for name in found.ids]
    columns = {"features": found.features, "predictions": found.predictions, "latency_ms": found.latency_ms.tolist()}
    kept = Entries(model.name, 99, found.layout, ids, found.at, found.input_sha256, **columns)
    loop.inference_log.write([kept])
    other = examples(loop, model.name, 99)
    assert len(other.drawn) == 5
    assert (other.farthest, other.reference) == ((), ())
    assert "not available here" in other.missing[-1]


def test_the_part_of_the_page_tells_answers_and_labels_to_those_who_see_no_image(loop: Workspace, model: ModelRef):
    images, labels = fresh_images(4, 1)
    ids = send(loop, model, images)
    label(loop, ids[:1], labels[:1])
    client = TestClient(create_app(loop), "http://127.0.0.1")
    part = client.get(f"/console/models/{model.name}/examples").text
    names = loop.inference_log.named(model.name, ids).layout.classes
    assert f"labelled {names[labels[0]]}" in part
    assert all(f"images/{name}?size=small" in part for name in ids)
    assert part.count("data:image/png;base64,") == N_REFERENCE
    assert part.count('role="img" aria-label="Image predicted as ') == part.count("<svg")
