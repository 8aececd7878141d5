"""Labelled production images become a data version that is checked like any other, and never touches what judges."""

from datetime import timedelta

import numpy as np
import pytest

from openmlops.core.validation import content_hashes
from openmlops.errors import DataError, DataInvalid
from openmlops.operations.data import datasets, from_production
from openmlops.operations.data.production_labels import HELD_OUT_EVERY, MIN_HELD_OUT, consistent, held_out, is_held_out
from openmlops.operations.labelling import queue
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.workspace import Workspace
from small_loop import NOON, fresh_images, label, send


def rows_of(loop: Workspace):
    datasets.ingest(loop)
    return loop.use_case.read(loop.data_folder)


def labelled(loop: Workspace, images: np.ndarray, labels: np.ndarray, at=NOON) -> list[str]:
    ids = send(loop, load_latest_model(loop), images, at)
    label(loop, ids, labels)
    return ids


def hashes(images: np.ndarray) -> set[bytes]:
    return set(content_hashes(images))


def test_new_labelled_images_are_train_images_of_a_new_version(loop: Workspace):
    before, model = rows_of(loop), load_latest_model(loop)
    images, labels = fresh_images(100, seed=20)
    labelled(loop, images, labels)
    made = from_production.add_labelled(loop, model)
    after = rows_of(loop)
    assert made.dataset.fingerprint != model.dataset
    assert made.added + made.held_out + sum(made.refused.values()) == 100
    assert len(after.labels) == len(before.labels) + made.added
    truth = dict(zip(content_hashes(images), labels.tolist(), strict=True))
    taken = [
        (truth[digest], int(label))
        for digest, label in zip(content_hashes(after.images), after.labels, strict=True)
        if digest in truth
    ]
    assert len(taken) == made.added > 60
    assert all(sent == stored for sent, stored in taken)


def test_the_test_split_and_the_official_files_stay_as_they_are(loop: Workspace):
    before = rows_of(loop)
    official = {path.name: path.read_bytes() for path in loop.data_folder.iterdir() if path.is_file()}
    labelled(loop, *fresh_images(60, seed=21))
    from_production.add_labelled(loop, load_latest_model(loop))
    after = rows_of(loop)
    assert np.array_equal(before.images[before.test], after.images[after.test])
    assert {name: (loop.data_folder / name).read_bytes() for name in official} == official
    assert {path.name for path in loop.data_folder.iterdir()} - official.keys() == {"data_batch_6"}


def test_what_is_held_out_is_in_no_data_version_and_judges(loop: Workspace):
    images, labels = fresh_images(400, seed=22)
    labelled(loop, images, labels)
    made = from_production.add_labelled(loop, load_latest_model(loop))
    from_production.mark_used(loop, made, NOON)
    rows = rows_of(loop)
    fresh, truth, _ = held_out(loop, loop.model_name, rows)
    assert 400 / HELD_OUT_EVERY / 2 < len(truth) <= made.held_out
    assert not hashes(fresh) & hashes(rows.images)
    sent = dict(zip(content_hashes(images), labels.tolist(), strict=True))
    assert [sent[digest] for digest in content_hashes(fresh)] == truth.tolist()


def test_what_the_champion_was_unsure_of_does_not_judge_its_challenger(loop: Workspace):
    model = load_latest_model(loop)
    asked_for, drawn, truth = set(), set(), {}
    for seed in range(50, 54):
        images, labels = fresh_images(250, seed=seed)
        truth |= dict(zip(send(loop, model, images, NOON + timedelta(hours=seed)), labels, strict=True))
        request = queue.request_labels(loop, model.name, "somebody", NOON + timedelta(hours=seed)).labels
        names = [*request.uncertain, *request.random]
        label(loop, names, np.array([truth[name] for name in names]))
        asked_for, drawn = asked_for | set(request.uncertain), drawn | set(request.random)
    found = held_out(loop, model.name, rows_of(loop))
    again = {name for draw in loop.label_draws.of(sorted(asked_for)) for name, each in draw.items() if each.at_random}
    held = [each for each in loop.labelled_inputs.all(model.name) if is_held_out(each)]
    judging = sum(each.prediction in drawn | again for each in held)
    assert again, "what was labelled already has the same chance of being drawn as what was not"
    assert MIN_HELD_OUT <= len(found.labels) <= judging
    why = "were asked for because the champion was uncertain"
    assert found.notes == (f"Left out of the fresh images: {len(held) - judging} {why}; those drawn at random judge.",)


def test_too_few_held_out_images_judge_nobody(loop: Workspace):
    labelled(loop, *fresh_images(40, seed=23))
    assert held_out(loop, loop.model_name, rows_of(loop)) is None


def test_an_image_of_the_test_split_is_never_trained_on_not_even_darkened(loop: Workspace):
    rows, model = rows_of(loop), load_latest_model(loop)
    images, labels = rows.images[rows.test][:60], rows.labels[rows.test][:60]
    labelled(loop, images, labels)
    labelled(loop, (images * 0.6).astype(np.uint8), labels)
    with pytest.raises(DataError, match="None of the 120 new labelled images can be used for training") as raised:
        from_production.add_labelled(loop, model)
    assert "near-duplicates of test images" in str(raised.value)


def test_a_retraining_on_mostly_copies_of_test_images_stops_with_a_remedy(loop: Workspace):
    rows, model = rows_of(loop), load_latest_model(loop)
    images, labels = rows.images[rows.test][:60], rows.labels[rows.test][:60]
    labelled(loop, images, labels)
    labelled(loop, *fresh_images(20, seed=24))
    before = datasets.ingest(loop)
    with pytest.raises(DataError, match=r"new labelled images are near-duplicates of test images, .* add a test set"):
        from_production.add_labelled(loop, model)
    assert datasets.ingest(loop) == before


def test_an_input_with_contradicting_labels_is_not_used_and_no_longer_counted(loop: Workspace):
    images, labels = fresh_images(60, seed=24)
    ids = [*labelled(loop, images, labels), *labelled(loop, images[:1], (labels[:1] + 1) % 10)]
    made = from_production.add_labelled(loop, load_latest_model(loop))
    assert made.refused["duplicates or conflicting labels"] == 2
    assert hashes(images[:1]) & hashes(rows_of(loop).images) == set()
    from_production.mark_used(loop, made, NOON)
    assert set(made.predictions) == set(ids)
    assert loop.labelled_inputs.count_new(loop.model_name) == 0


def test_a_label_is_new_until_a_training_has_used_it(loop: Workspace):
    labelled(loop, *fresh_images(60, seed=25))
    made = from_production.add_labelled(loop, load_latest_model(loop))
    assert loop.labelled_inputs.count_new(loop.model_name) == 60
    from_production.mark_used(loop, made, NOON)
    from_production.mark_used(loop, made, NOON)
    assert loop.labelled_inputs.count_new(loop.model_name) == 0


def test_a_killed_retraining_goes_on_with_the_version_that_it_had_made(loop: Workspace):
    labelled(loop, *fresh_images(60, seed=26))
    first = from_production.add_labelled(loop, load_latest_model(loop))
    again = from_production.add_labelled(loop, load_latest_model(loop))
    assert (again.dataset, again.added) == (first.dataset, 0)
    assert set(again.predictions) == set(first.predictions)


def test_no_new_label_is_said_and_makes_no_version(loop: Workspace):
    with pytest.raises(DataError, match="None of the 0 new labelled images can be used for training"):
        from_production.add_labelled(loop, load_latest_model(loop))
    assert datasets.ingest(loop).fingerprint == load_latest_model(loop).dataset


def test_a_day_of_traffic_can_add_only_so_much(loop: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(from_production, "MAX_PER_DAY", 10)
    for day in range(2):
        labelled(loop, *fresh_images(50, seed=27 + day), NOON + timedelta(days=day))
    made = from_production.add_labelled(loop, load_latest_model(loop))
    assert made.added + made.refused.get("near-duplicates of test images", 0) == 20


def test_new_data_that_does_not_pass_the_checks_leaves_the_last_good_version(loop: Workspace):
    constant = np.repeat(np.arange(80, dtype=np.uint8) + 100, 32 * 32 * 3).reshape(80, 32, 32, 3)
    labelled(loop, constant, np.zeros(80, np.int64))
    with pytest.raises(DataInvalid, match="every pixel has the same value"):
        from_production.add_labelled(loop, load_latest_model(loop))
    assert datasets.ingest(loop).fingerprint == load_latest_model(loop).dataset


def test_the_same_input_is_on_the_same_side_whenever_it_comes(loop: Workspace):
    images, labels = fresh_images(50, seed=30)
    labelled(loop, images, labels)
    first = {found.sha256: is_held_out(found) for found in loop.labelled_inputs.all(loop.model_name)}
    labelled(loop, images, labels)
    assert {found.sha256: is_held_out(found) for found in loop.labelled_inputs.all(loop.model_name)} == first
    assert len(consistent(loop.labelled_inputs.all(loop.model_name))) == 50
