"""What is offered to people for labelling, and how their labels join the log."""

import json
import threading
from datetime import timedelta

import numpy as np
import pytest

from labelling_world import BOXES, NOON, World
from openmlops.errors import DataError, LabelConflict, ModelNotFound, PredictionNotFound
from openmlops.operations.labelling import queue

LATER = NOON + timedelta(hours=1)


def give(world: World, prediction: str, told: object) -> bool:
    return queue.submit_label(world.workspace, world.model, prediction, told, LATER)


def request(world: World) -> queue.LabelRequest:
    found = queue.current_request(world.workspace, world.model)
    assert found is not None
    return found


def test_without_a_decision_that_asks_there_is_nothing_to_label(pets: World):
    pets.decide("nothing")
    assert queue.current_request(pets.workspace, pets.model) is None


def test_a_request_names_uncertain_and_random_images_in_turn(pets: World):
    first, second, third, *_ = pets.ids
    pets.request([third, first], [second])
    found = request(pets)
    assert [(w.prediction, w.why) for w in found.open] == [(third, "uncertain"), (second, "random"), (first, "uncertain")]
    assert (found.requested, found.labelled, found.not_kept, found.needed) == (3, 0, 0, 500)


def test_what_is_labelled_or_not_kept_is_counted_and_not_offered(pets: World):
    pets.request(pets.ids[:2], pets.ids[2:4])
    assert give(pets, pets.ids[0], 3)
    pets.lose(pets.ids[2])
    found = request(pets)
    assert [w.prediction for w in found.open] == [pets.ids[1], pets.ids[3]]
    assert (found.requested, found.labelled, found.not_kept, found.new_labels) == (4, 1, 1, 1)


def test_skipping_goes_round_and_comes_back(pets: World):
    pets.request(pets.ids[:2], ())
    found = request(pets)
    second = found.after(pets.ids[0])
    assert second is not None
    assert second.prediction == pets.ids[1]
    assert found.after(pets.ids[1]) == found.open[0]


@pytest.mark.parametrize("action", ["retrain", "roll_back"])
def test_a_request_is_over_once_a_later_decision_acts(pets: World, action: str):
    pets.request(pets.ids[:2], ())
    pets.decide("nothing")
    assert request(pets).requested == 2
    pets.decide(action)
    assert queue.current_request(pets.workspace, pets.model) is None


def test_a_request_by_hand_names_the_least_certain_unlabelled_images_that_are_kept(pets: World):
    give(pets, pets.ids[0], 3)
    pets.lose(pets.ids[1])
    record = queue.request_labels(pets.workspace, pets.model, "somebody", LATER)
    random = set(record.labels.random)
    assert len(random) == len(pets.ids[2:]) // 2
    surer = [pets.ids[row] for row in (2, 4, 5, 3)]  # the later an image was sent, but 3 resembles 2
    assert record.labels.uncertain == tuple(name for name in surer if name not in random)
    draw = pets.workspace.label_draws.of(pets.ids)[0]
    assert sorted(draw) == sorted({pets.ids[0], *pets.ids[2:]}), "of all answers but those whose image is gone"
    assert draw[pets.ids[0]].stratum == "known"
    assert (request(pets).decision, request(pets).by) == (record.id, "somebody")


def test_nothing_can_be_asked_for_where_nothing_is_left_or_nobody_answers(pets: World):
    for name in pets.ids:
        pets.lose(name)
    with pytest.raises(DataError, match="is unlabelled"):
        queue.request_labels(pets.workspace, pets.model, "somebody", LATER)
    with pytest.raises(ModelNotFound, match="no champion"):
        queue.request_labels(pets.workspace, "unknown", "somebody", LATER)


def test_a_label_joins_once_and_another_one_is_refused_in_a_sentence(pets: World):
    assert give(pets, pets.ids[0], "cat")
    assert not give(pets, pets.ids[0], 3)
    with pytest.raises(LabelConflict, match="labelled by someone else"):
        give(pets, pets.ids[0], "dog")
    assert pets.label_of(pets.ids[0]) == "3"


def test_two_people_at_once_leave_one_label(pets: World):
    ended = []

    def label(told: str) -> None:
        try:
            ended.append(give(pets, pets.ids[0], told))
        except LabelConflict:
            ended.append(False)

    people = [threading.Thread(target=label, args=(told,)) for told in ("cat", "dog", "bird", "frog")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert sorted(ended) == [False, False, False, True]


def test_predictions_of_another_model_and_unknown_ones_are_not_labelled(pets: World):
    for model, prediction in ((pets.model, "unknown"), ("another", pets.ids[0])):
        with pytest.raises(PredictionNotFound):
            queue.submit_label(pets.workspace, model, prediction, 0, LATER)
    assert pets.label_of(pets.ids[0]) is None


def test_what_is_no_class_or_cannot_be_seen_any_more_is_refused(pets: World):
    with pytest.raises(DataError, match="not a class"):
        give(pets, pets.ids[0], 10)
    pets.lose(pets.ids[1])
    with pytest.raises(DataError, match="not stored"):
        give(pets, pets.ids[1], 1)


def test_accepted_boxes_are_stored_exactly_as_they_were_answered(people: World):
    found = queue.prediction_record(people.workspace, people.model, people.ids[0])
    assert len(queue.predicted_boxes(found.predicted)) == 2
    drawn = {"class": "person", "box": [1, 2, 3.5, 4]}
    give(people, people.ids[0], queue.label_from_boxes(found, [1], [drawn]))
    assert json.loads(people.label_of(people.ids[0]) or "") == [[*BOXES[1, :4].tolist(), 0], [1, 2, 3.5, 4, 0]]
    give(people, people.ids[1], queue.label_from_boxes(found, [], []))
    assert people.label_of(people.ids[1]) == "[]"


def test_boxes_that_there_are_not_and_such_outside_of_the_image_are_refused(people: World):
    found = queue.prediction_record(people.workspace, people.model, people.ids[0])
    with pytest.raises(DataError, match="none in row 2"):
        queue.label_from_boxes(found, [2], [])
    with pytest.raises(DataError, match="outside"):
        give(people, people.ids[0], [{"class": 0, "box": [200, 10, 220, 30]}])
    assert people.label_of(people.ids[0]) is None


def test_an_image_is_shown_as_it_was_sent(people: World):
    found = queue.prediction_record(people.workspace, people.model, people.ids[0])
    image = queue.image_of(people.workspace, found)
    assert image.shape == (*queue.size_of(people.workspace, found), 3) == (96, 128, 3)
    assert np.array_equal(image, people.workspace.use_case.decode(people.workspace.inputs.read(found.sha256)))
