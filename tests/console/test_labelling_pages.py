"""What the labelling pages, the images and the examples answer over HTTP, without a browser."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from labelling_world import BOXES, World
from openmlops.console.app import create_app
from openmlops.console.images import SIDES
from turned import ORIENTATIONS, photograph

HTMX = {"HX-Request": "true"}


def visitor(world: World, **headers: str) -> TestClient:
    return TestClient(create_app(world.workspace), "http://127.0.0.1", headers=headers, follow_redirects=False)


def place(world: World, rest: str) -> str:
    return f"/console/models/{world.model}/{rest}"


def test_an_image_leaves_as_a_png_of_our_own_making(people: World):
    sent = people.workspace.inputs.read(people.workspace.inference_log.named(people.model, people.ids[:1]).input_sha256[0])
    predicted = visitor(people).get(place(people, f"images/{people.ids[0]}"))
    assert predicted.headers["content-type"] == "image/png"
    assert predicted.headers["x-content-type-options"] == "nosniff"
    assert predicted.content != sent
    with Image.open(io.BytesIO(predicted.content)) as ours, Image.open(io.BytesIO(sent)) as theirs:
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_a_large_image_is_made_smaller_and_what_is_hidden_in_a_file_stays_there(pets: World):
    large = Image.new("RGB", (3000, 500), "navy")
    held = io.BytesIO()
    large.save(held, "JPEG", comment=b"<script>alert(1)</script>")
    sha256 = pets.workspace.inference_log.named(pets.model, pets.ids[:1]).input_sha256[0]
    other = _stored(pets, held.getvalue())
    pets.workspace.inputs.path(sha256).unlink()
    with pets.workspace.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inference SET input_sha256 = ? WHERE id = ?", (other, pets.ids[0]))
    for size, side in SIDES.items():
        predicted = visitor(pets).get(place(pets, f"images/{pets.ids[0]}?size={size}"))
        with Image.open(io.BytesIO(predicted.content)) as found:
            assert found.size == (side, round(side / 6))
        assert b"script" not in predicted.content


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_photograph_is_shown_upright_where_its_boxes_are(people: World, orientation: int, kind: str):
    _send_instead(people, photograph(np.zeros((90, 120, 3), np.uint8), orientation, kind))
    with Image.open(io.BytesIO(visitor(people).get(place(people, f"images/{people.ids[0]}")).content)) as found:
        assert found.size == (120, 90)
    people.request(people.ids[:1], ())
    assert "0 0 120 90" in visitor(people).get(place(people, "labelling")).text


@pytest.mark.slow
def test_an_example_has_the_size_of_the_upright_photograph(people: World):
    _send_instead(people, photograph(np.zeros((90, 120, 3), np.uint8), 6, "JPEG"))
    assert "0 0 120 90" in visitor(people).get(place(people, "examples")).text


def _send_instead(world: World, content: bytes) -> None:
    """Make it the image of the first prediction."""
    sha256 = _stored(world, content)
    with world.workspace.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE inference SET input_sha256 = ? WHERE id = ?", (sha256, world.ids[0]))


def _stored(world: World, content: bytes) -> str:
    from openmlops.adapters.input_store import sha256_of

    world.workspace.inputs.put(content, sha256_of(content))
    return sha256_of(content)


def test_an_image_that_is_not_there_is_a_404_in_one_line(pets: World):
    pets.lose(pets.ids[0])
    for path in (f"images/{pets.ids[0]}", "images/unknown", "images/..%2f..%2fopenmlops.db"):
        predicted = visitor(pets).get(place(pets, path))
        assert predicted.status_code == 404, path
        assert "\n" not in predicted.text.strip()
    other = visitor(pets).get(f"/console/models/another/images/{pets.ids[1]}")
    assert other.status_code == 404


def test_without_a_request_the_page_says_so_and_makes_one_on_demand(pets: World):
    client = visitor(pets)
    assert "No decision requests labels" in client.get(place(pets, "labelling")).text
    assert client.post(place(pets, "labelling"), data={}).status_code == 303
    page = client.get(place(pets, "labelling")).text
    assert "0 of 6" in page
    client.post(place(pets, "labelling"), data={})
    assert sum(record.action == "collect_labels" for record in pets.workspace.decisions.list(pets.model)) == 1


def test_a_form_without_scripts_labels_one_image_after_the_other(pets: World):
    pets.request(pets.ids[:2], ())
    client = visitor(pets)
    told = {"prediction": pets.ids[0], "next": pets.ids[1], "label": "3"}
    predicted = client.post(place(pets, "labels"), data=told)
    assert predicted.status_code == 303
    page = client.get(predicted.headers["location"]).text
    assert "Saved: cat." in page
    assert "1 of 2" in page
    assert pets.ids[1] in page
    assert pets.label_of(pets.ids[0]) == "3"


def test_an_image_that_cannot_be_read_any_more_holds_nobody_up(pets: World):
    pets.request(pets.ids[:2], ())
    pets.damage(pets.ids[0])
    page = visitor(pets).get(place(pets, f"labelling?image={pets.ids[0]}"))
    assert page.status_code == 200
    assert f'value="{pets.ids[1]}"' in page.text


def test_the_guess_is_hidden_until_it_is_asked_for_and_classes_keep_their_order(pets: World):
    pets.request(pets.ids[3:4], ())
    page = visitor(pets).get(place(pets, "labelling")).text
    guess = page.index('<details class="guess">')
    assert "cat, 55 %" in page[guess:]
    assert "cat, 55 %" not in page[:guess]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    places = [page.index(f"<span>{name}</span>") for name in names]
    assert places == sorted(places)


def test_accepted_and_drawn_boxes_become_the_label_and_nothing_else(people: World):
    people.request(people.ids[:2], ())
    drawn = '{"class": 0, "box": [1, 2, 30.5, 40]}'
    told = {"prediction": people.ids[0], "next": people.ids[1], "box": ["1"], "drawn": [drawn]}
    predicted = visitor(people, **HTMX).post(place(people, "labels"), data=told)
    assert predicted.status_code == 200
    assert "Saved: 2 boxes." in predicted.text
    assert people.boxes_of(people.ids[0]) == [[*BOXES[1, :4].tolist(), 0], [1, 2, 30.5, 40, 0]]


def test_a_label_from_elsewhere_is_shown_and_the_page_goes_on(pets: World):
    pets.request(pets.ids[:2], ())
    pets.tell(pets.ids[0], "dog")
    told = {"prediction": pets.ids[0], "next": pets.ids[1], "label": "3"}
    predicted = visitor(pets, **HTMX).post(place(pets, "labels"), data=told)
    assert predicted.status_code == 409
    assert "labelled by someone else in the meantime" in predicted.text
    assert "Existing label: dog." in predicted.text
    assert f'value="{pets.ids[1]}"' in predicted.text
    assert pets.label_of(pets.ids[0]) == "5"


@pytest.mark.parametrize(
    "told",
    [
        {"label": "10"},
        {"label": "cat; DROP TABLE label"},
        {},
    ],
)
def test_what_is_no_class_is_refused_and_the_image_stays(pets: World, told: dict[str, str]):
    pets.request(pets.ids[:2], ())
    predicted = visitor(pets, **HTMX).post(place(pets, "labels"), data={"prediction": pets.ids[0], **told})
    assert predicted.status_code == 422
    assert "Not saved." in predicted.text
    assert f'value="{pets.ids[0]}"' in predicted.text
    assert pets.label_of(pets.ids[0]) is None


@pytest.mark.parametrize(
    "told",
    [
        {"box": ["2"]},
        {"box": ["-1"]},
        {"drawn": ['{"class": 0, "box": [1, 2, 3]}']},
        {"drawn": ['{"class": 9, "box": [1, 2, 30, 40]}']},
        {"drawn": ['{"class": 0, "box": [500, 2, 600, 40]}']},
        {"drawn": ["[" * 50_000]},
        {"drawn": ['{"class": 0, "box": [NaN, 2, 3, 4]}']},
    ],
)
def test_what_are_no_boxes_of_the_image_is_refused(people: World, told: dict[str, list[str]]):
    people.request(people.ids[:2], ())
    predicted = visitor(people, **HTMX).post(place(people, "labels"), data={"prediction": people.ids[0], **told})
    assert predicted.status_code == 422
    assert people.label_of(people.ids[0]) is None


def test_after_the_last_one_the_page_says_what_happens_next(pets: World):
    pets.request(pets.ids[:1], ())
    told = {"prediction": pets.ids[0], "next": "", "label": "3"}
    page = visitor(pets, **HTMX).post(place(pets, "labels"), data=told).text
    assert "Nothing left to label" in page
    assert "1 of the 500 new labels required for retraining" in page


def test_whoever_may_only_read_sees_images_and_labels_none(pets: World):
    pets.request(pets.ids[:1], ())
    guarded = pets.with_settings(api_token="w" * 20, api_read_token="r" * 20)
    reader = visitor(guarded, Authorization=f"Bearer {'r' * 20}")
    page = reader.get(place(pets, "labelling"))
    assert page.status_code == 200
    assert "<form" not in page.text[page.text.index('id="labelling"') :]
    assert reader.get(place(pets, f"images/{pets.ids[0]}")).status_code == 200
    for path in ("labels", "labelling"):
        assert reader.post(place(pets, path), data={"prediction": pets.ids[0], "label": "3"}).status_code == 403
        assert visitor(guarded).post(place(pets, path), data={}).status_code == 401
    assert visitor(guarded).get(place(pets, f"images/{pets.ids[0]}")).status_code == 401
    assert pets.label_of(pets.ids[0]) is None


def test_another_sites_page_labels_nothing(pets: World):
    pets.request(pets.ids[:1], ())
    foreign = visitor(pets, Origin="http://elsewhere.example")
    assert foreign.post(place(pets, "labels"), data={"prediction": pets.ids[0], "label": "3"}).status_code == 403
    assert pets.label_of(pets.ids[0]) is None
