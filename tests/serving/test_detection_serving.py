"""A server of detectors: boxes in pixels of what was sent, pictures of them, labels that join, swaps between input sizes."""

import asyncio
import hashlib
import io
import json
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from clients import busy
from detectors import LARGER, NAMES, SIDE, Detectors, ready, served, sheets
from PIL import Image
from servers import PATIENT, Server, jpeg, png, running
from starlette.exceptions import HTTPException
from test_generated import send_generated
from test_refusals import is_problem
from versions import MODEL, World, images
from versions import export as export_classifier

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_store import InputStore
from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.detection.task import DETECTION
from openmlops.core.images.boxes import from_canvas, place
from openmlops.core.images.drawing import with_boxes
from openmlops.errors import ModelCorrupt
from openmlops.files import MANIFEST, Manifest
from openmlops.serving.batching import Batcher
from openmlops.serving.commit import GroupCommit
from openmlops.serving.config import Limits
from openmlops.serving.metrics import Metrics
from openmlops.serving.predictor import Predictor, load
from openmlops.usecases.cifar10 import USE_CASE as CIFAR10
from openmlops.usecases.person import USE_CASE as PERSON
from openmlops.web.conditions import Conditions
from turned import ORIENTATIONS, photograph

SIZES = [(120, 200), (200, 120), (64, 64), (900, 1200), (31, 20)]
RED = (0xDC, 0x26, 0x26)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory) -> Detectors:
    world = Detectors(tmp_path_factory.mktemp("detectors"))
    world.promote(1)
    return world


@pytest.fixture(scope="module")
def server(shared_world) -> Iterator[Server]:
    with served(shared_world) as started:
        yield started


@pytest.fixture
def two_sizes(tmp_path) -> Detectors:
    """Version 2 takes larger images than version 1."""
    return Detectors(tmp_path, sides={2: LARGER})


def painted(size: tuple[int, int], white: tuple[int, int] = (1, 1), grey: tuple[int, int] = (2, 2)) -> np.ndarray:
    """A black image of `size` (height, width) that on a canvas of SIDE fills two cells (column, row), one for each colour."""
    image = np.zeros((*size, 3), np.uint8)
    for cell, value in ((grey, 150), (white, 255)):
        left, top, right, bottom = cell_in(size, cell)
        image[round(top) : round(bottom), round(left) : round(right)] = value
    return image


def cell_in(size: tuple[int, int], cell: tuple[int, int]) -> np.ndarray:
    """x1, y1, x2, y2 of a cell of the canvas, in pixels of an image of `size`."""
    corners = np.array([[*cell, cell[0] + 1, cell[1] + 1]], np.float64) * 16
    return from_canvas(corners, place(size, (SIDE, SIDE)), size)[0]


def centre(box) -> np.ndarray:
    return (np.array(box[:2]) + np.array(box[2:4])) / 2


# Answers


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("encode", [png, jpeg])
def test_boxes_are_in_pixels_of_the_image_that_was_sent(server, size, encode):
    answer = server.predict(encode(painted(size))).json()
    assert answer["model"] == {"name": MODEL, "version": 1}
    assert (answer["labels"], answer["classes"]) == ([0], list(NAMES))
    assert answer["scores"] == [pytest.approx(0.96, abs=0.03)]
    expected = cell_in(size, (1, 1))
    tolerance = 1 + max(size) / SIDE / 2
    assert np.abs(centre(answer["boxes"][0]) - centre(expected)).max() <= tolerance
    x1, y1, x2, y2 = answer["boxes"][0]
    assert 0 <= x1 < expected[0] < expected[2] < x2 <= size[1]
    assert 0 <= y1 < expected[1] < expected[3] < y2 <= size[0]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_are_in_pixels_of_the_upright_image_and_drawn_on_it(server, orientation):
    image = painted((120, 200))
    sent = photograph(image, orientation)
    assert server.predict(sent).json()["boxes"] == server.predict(png(image)).json()["boxes"]
    drawn, expected = (server.predict(content, params={"draw": "1"}).content for content in (sent, png(image)))
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(found))) for found in (drawn, expected)))


def test_the_surest_box_comes_first_and_those_below_the_threshold_not_at_all(server):
    image = np.repeat(np.repeat(np.linspace(0, 255, 16).reshape(4, 4, 1), 50, 0), 50, 1).repeat(3, 2).astype(np.uint8)
    answer = server.predict(png(image)).json()
    assert len(answer["scores"]) == len(answer["boxes"]) == len(answer["labels"]) == len(answer["classes"]) == 6
    assert answer["scores"] == sorted(answer["scores"], reverse=True)
    assert answer["scores"][-1] >= OPERATING
    assert answer["boxes"][0] == pytest.approx([144, 144, 200, 200], abs=1), "the brightest is in the corner, cut by it"


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 15)])
def test_images_of_hardly_any_pixels_are_refused_because_no_data_set_could_hold_them(server, size):
    for wanted in ("0", "1"):
        answer = server.predict(png(np.zeros((*size, 3), np.uint8)), params={"draw": wanted})
        assert answer.status_code == 422
        assert f"{size[1]}x{size[0]} pixels, less than 16 on a side" in answer.json()["detail"]


@pytest.mark.parametrize("size", [(16, 16), (16, 5000), (400, 16)])
@pytest.mark.parametrize("value", [0, 255])
def test_images_of_strange_shapes_are_answered(server, size, value):
    image = np.full((*size, 3), value, np.uint8)
    answer = server.predict(png(image))
    assert answer.status_code == 200
    assert all(0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0] for x1, y1, x2, y2 in answer.json()["boxes"])
    picture = server.predict(png(image), params={"draw": "1"})
    assert Image.open(io.BytesIO(picture.content)).size == (size[1], size[0])


def test_an_image_with_nothing_in_it_is_answered_with_no_boxes(server):
    answer = server.predict(png(np.zeros((50, 70, 3), np.uint8))).json()
    assert (answer["boxes"], answer["scores"], answer["labels"], answer["classes"]) == ([], [], [], [])


def test_images_of_different_sizes_in_one_request_each_get_their_own_boxes(server):
    several = [painted(size, white=(column % 2 + 1, 1)) for column, size in enumerate(SIZES)]
    files = [("file", (f"{i}.png", png(image))) for i, image in enumerate(several)]
    together = server.client.post("/predict", files=files).json()["predictions"]
    alone = [server.predict(png(image)).json() for image in several]
    assert [answer["boxes"] for answer in together] == [answer["boxes"] for answer in alone]
    assert len({str(answer["boxes"]) for answer in together}) == len(SIZES)
    assert len({answer["prediction_id"] for answer in together + alone}) == 2 * len(SIZES)


def test_the_log_holds_all_boxes_also_the_less_sure_and_what_was_sent(server, shared_world, person_log):
    content = png(painted((240, 320)))
    answer = server.predict(content).json()
    window = person_log.window(MODEL, 1, last=1)
    assert window.ids == (answer["prediction_id"],)
    (found,) = DETECTION.unpack(window.predictions, 1)
    sure = found[found[:, 4] >= OPERATING]
    assert 0 < len(sure) < len(found), "the grey cell is logged, not shown"
    np.testing.assert_allclose(sure[:, :4], answer["boxes"], atol=0.01)
    np.testing.assert_allclose(sure[:, 4], answer["scores"], atol=1e-6)
    assert (found[:, 4] == np.sort(found[:, 4])[::-1]).all()
    assert np.isfinite(window.features).all()
    assert {"image.brightness", "boxes.count", "embedding.0"} <= set(window.columns())
    assert window.layout.classes == NAMES
    assert window.input_sha256 == (hashlib.sha256(content).hexdigest(),)
    assert InputStore(shared_world.home / "inputs").read(window.input_sha256[0]) == content


@pytest.fixture
def person_log(shared_world) -> InferenceLog:
    return InferenceLog(connect(shared_world.url))


# Pictures


@pytest.mark.parametrize("size", SIZES[:4])
@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_picture_has_the_images_own_size_and_its_boxes_in_red(server, person_log, size, encode):
    content = encode(painted(size))
    told = server.predict(content).json()
    response = server.predict(content, params={"draw": "1"})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.headers["x-model-version"] == "1"
    assert person_log.window(MODEL, 1, last=1).ids == (response.headers["x-prediction-id"],)
    before, drawn = (np.asarray(Image.open(io.BytesIO(found)).convert("RGB")) for found in (content, response.content))
    assert drawn.shape == (*size, 3)
    x1, y1, x2, y2 = (int(value) for value in told["boxes"][0])
    middle = (y1 + y2) // 2
    assert (drawn[middle, x1 : x1 + 2] == RED).all(axis=1).any()
    assert (drawn[y2 - 1 : y2 + 1, (x1 + x2) // 2] == RED).all(axis=1).any()
    assert (drawn[-1, :] == before[-1, :]).all(), "what is outside of the boxes stays"


def test_draw_0_is_as_without(server):
    content = png(painted((100, 80)))
    predictions = [server.predict(content, params=params).json() for params in ({}, {"draw": "0"}, {"draw": ""})]
    assert all(answer["boxes"] == predictions[0]["boxes"] != [] for answer in predictions)


@pytest.mark.parametrize("left", [40, 90, 140, 155])
def test_the_name_of_a_box_is_whole_also_at_the_images_edge(left):
    black = np.zeros((100, 160, 3), np.uint8)
    drawn = [np.asarray(with_boxes(black, np.array([[x, 60, x + 5, 90, 0.9, 0]], np.float32), NAMES)) for x in (5, left)]
    letters = [(picture[:, :, 1] > 128).sum() for picture in drawn]
    assert letters[1] == letters[0] > 20


@pytest.mark.parametrize("draw", ["2", "true", "false", "\n", "x" * 1000])
def test_draw_is_0_or_1(server, draw):
    response = server.predict(png(painted((50, 50))), params={"draw": draw})
    assert is_problem(response, 422)
    assert len(response.json()["detail"]) < 200


def test_of_several_images_none_is_drawn(server):
    files = [("file", (f"{i}.png", png(painted((50, 50))))) for i in range(2)]
    response = server.client.post("/predict", files=files, params={"draw": "1"})
    assert is_problem(response, 422)
    assert "only one image" in response.json()["detail"]


def test_a_broken_image_is_not_drawn(server):
    assert is_problem(server.predict(png(painted((50, 50)))[:-30], params={"draw": "1"}), 422)


# Labels


def told(server: Server, label: object, prediction: str | None = None) -> httpx.Response:
    """Send a label of a new prediction, or of this one; a text is sent as it is, as the label's JSON."""
    prediction = prediction or server.predict(png(painted((60, 80)))).json()["prediction_id"]
    content = label if isinstance(label, str) else json.dumps(label)
    return server.client.post("/feedback", content=f'{{"prediction_id": "{prediction}", "label": {content}}}')


def one(box: object = (1, 2, 30, 40), name: object = "person") -> dict[str, object]:
    return {"class": name, "box": box}


def test_boxes_join_their_prediction_once(server, person_log):
    prediction = server.predict(png(painted((60, 80)))).json()["prediction_id"]
    same = [[one(), one((0, 0, 5.5, 6))], [one(name=0), one((0.0, 0, 5.5, 6.0), name=0)]]
    predictions = [told(server, label, prediction) for label in (same[0], same[0], same[1], [one()], [])]
    assert [answer.status_code for answer in predictions] == [200, 200, 200, 409, 409]
    assert [answer.json()["recorded"] for answer in predictions[:3]] == [True, False, False]
    (kept,) = DETECTION.labels(person_log.window(MODEL, 1, last=1).labels)
    np.testing.assert_array_equal(kept, [[1, 2, 30, 40, 0], [0, 0, 5.5, 6, 0]])


def test_no_boxes_are_a_label_too(server, person_log):
    prediction = server.predict(png(painted((60, 80)))).json()["prediction_id"]
    predictions = [told(server, label, prediction) for label in ([], [], [one()])]
    assert [answer.status_code for answer in predictions] == [200, 200, 409]
    assert predictions[0].json()["recorded"]
    assert not predictions[1].json()["recorded"]
    assert DETECTION.labels(person_log.window(MODEL, 1, last=1).labels)[0].shape == (0, 5)


def test_a_thousand_boxes_are_a_label_and_one_more_is_not(server):
    assert told(server, [one()] * 1000).status_code == 200
    assert is_problem(told(server, [one()] * 1001), 422)


NO_LABELS: dict[str, object] = {
    "a class index": 0,
    "a class name": '"person"',
    "a text": '"[]"',
    "null": None,
    "an object": one(),
    "a list of numbers": [1, 2, 3, 4],
    "a list of lists": [[1, 2, 3, 4]],
    "nested lists": "[" * 50 + "]" * 50,
    "deeply nested lists": "[" * 50_000 + "]" * 50_000,
    "a box without a class": [{"box": [1, 2, 3, 4]}],
    "a class without a box": [{"class": 0}],
    "a box with a score": [{**one(), "score": 0.9}],
    "NaN": '[{"class": 0, "box": [NaN, 2, 3, 4]}]',
    "Infinity": '[{"class": 0, "box": [1, 2, Infinity, 4]}]',
    "minus Infinity": '[{"class": 0, "box": [-Infinity, 2, 3, 4]}]',
    "a number beyond floats": '[{"class": 0, "box": [1, 2, 1e400, 4]}]',
    "an integer beyond floats": f'[{{"class": 0, "box": [1, 2, 1{"0" * 400}, 4]}}]',
    "an integer of 4,300 digits": f'[{{"class": 0, "box": [1, 2, {"9" * 4300}, 4]}}]',
    "an integer of 5,000 digits": f'[{{"class": 0, "box": [1, 2, {"9" * 5000}, 4]}}]',
    "a class of 4,300 digits": f'[{{"class": {"9" * 4300}, "box": [1, 2, 3, 4]}}]',
    "texts": [one(["1", "2", "3", "4"])],
    "booleans": [one([False, False, True, True])],
    "nulls": [one([None] * 4)],
    "three numbers": [one([1, 2, 3])],
    "five numbers": [one([1, 2, 3, 4, 5])],
    "no numbers": [one([])],
    "a box of lists": [one([[1], [2], [3], [4]])],
    "left and right changed": [one([3, 2, 1, 4])],
    "top and bottom changed": [one([1, 4, 3, 2])],
    "no width": [one([1, 2, 1, 4])],
    "no height": [one([1, 2, 3, 2])],
    "no width as it is stored": [one([100, 2, 100.0000001, 4])],
    "negative": [one([-1, 2, 3, 4])],
    "a class that does not exist": [one(name="dog")],
    "a class index that does not exist": [one(name=1)],
    "a negative class index": [one(name=-1)],
    "a class that is a float": [one(name=0.0)],
    "a class that is true": [one(name=True)],
    "a class that is a list": [one(name=["person"])],
    "one good and one bad": [one(), one(name="dog")],
}


@pytest.mark.parametrize("label", NO_LABELS.values(), ids=NO_LABELS.keys())
def test_what_is_no_label_of_a_detector_is_a_422_in_one_line(server, label):
    response = told(server, "null" if label is None else label)
    assert is_problem(response, 422)
    detail = response.json()["detail"]
    assert len(detail) < 400
    assert "\n" not in detail


def test_a_refused_box_is_named(server):
    """And not that the label might have been a class index."""
    response = told(server, [one(), one([1, 2, 3])])
    assert "box" in response.json()["detail"]
    assert "integer" not in response.json()["detail"]

    response = told(server, [one()] * 1001)
    assert "at most 1000" in response.json()["detail"]


@pytest.mark.parametrize("rubbish", [0, {}, one()])
def test_endless_rubbish_is_refused_in_little_memory(server, rubbish):
    """Every wrong box was an error of its own: 2 MB of them took 3 s and a gigabyte."""
    process = psutil.Process(server.process.pid)
    label = "[" + ",".join([json.dumps(rubbish)] * 300_000) + "]"
    few = "[" + ",".join([json.dumps(rubbish)] * 20_000) + "]"
    prediction = server.predict(png(painted((60, 80)))).json()["prediction_id"]
    before = highest(process)
    assert is_problem(told(server, few, prediction), 413 if len(few) > 2**20 else 422)
    assert is_problem(told(server, label, prediction), 422 if len(label) < 2**20 else 413)
    assert highest(process) - before < 100 * 2**20


# Open Inference Protocol


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as opened:
        yield opened


def test_metadata_say_which_dimensions_vary(client):
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}]
    assert {output["name"]: (output["datatype"], output["shape"]) for output in metadata["outputs"]} == {
        "prediction_id": ("BYTES", [-1]),
        "count": ("INT64", [-1]),
        "boxes": ("FP32", [-1, -1, 4]),
        "scores": ("FP32", [-1, -1]),
        "labels": ("INT64", [-1, -1]),
        "embedding": ("FP32", [-1, 3]),
    }


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_the_boxes_that_predict_answers(server, client, binary):
    batch = np.stack([painted((SIDE, SIDE)), np.zeros((SIDE, SIDE, 3), np.uint8), *(sheets(i, (SIDE, SIDE)) for i in range(3))])
    batch[2, :32, :32] = 255
    asked = triton.InferInput("images", batch.shape, "UINT8")
    asked.set_data_from_numpy(batch, binary_data=binary)
    outputs = ("prediction_id", "count", "boxes", "scores", "labels", "embedding")
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    result = client.infer(MODEL, [asked], outputs=wanted)
    alone = [server.predict(png(image)).json() for image in batch]
    counts = result.as_numpy("count")
    assert counts.tolist() == [len(answer["boxes"]) for answer in alone]
    assert counts[0] == 1
    assert counts[1] == 0
    assert counts[2] >= 4
    most = counts.max()
    assert result.as_numpy("boxes").shape == (5, most, 4)
    assert result.as_numpy("embedding").shape == (5, 3)
    assert len(set(result.as_numpy("prediction_id").tolist())) == 5
    for row, answer in enumerate(alone):
        real, padding = slice(counts[row]), slice(counts[row], None)
        np.testing.assert_allclose(
            result.as_numpy("boxes")[row, real].reshape(-1, 4), np.reshape(answer["boxes"], (-1, 4)), atol=0.01
        )
        np.testing.assert_allclose(result.as_numpy("scores")[row, real], answer["scores"], atol=1e-5)
        assert result.as_numpy("labels")[row, real].tolist() == answer["labels"]
        assert (result.as_numpy("labels")[row, padding] == -1).all()
        assert (result.as_numpy("scores")[row, padding] == 0).all()


@pytest.mark.parametrize("binary", [True, False])
def test_where_nothing_is_found_the_tensors_have_no_columns(client, binary):
    asked = triton.InferInput("images", (2, SIDE, SIDE, 3), "UINT8")
    asked.set_data_from_numpy(np.zeros((2, SIDE, SIDE, 3), np.uint8))
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("count", "boxes", "scores", "labels")]
    result = client.infer(MODEL, [asked], outputs=wanted)
    assert result.as_numpy("count").tolist() == [0, 0]
    assert result.get_output("boxes")["shape"] == [2, 0, 4]
    assert result.get_output("scores")["shape"] == result.get_output("labels")["shape"] == [2, 0]


def raw_request(batch: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with raw bytes."""
    tensor = {"name": "images", "datatype": "UINT8", "shape": batch.shape, "parameters": {"binary_data_size": batch.size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + batch.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def test_an_extension_that_is_not_offered_is_told_with_outputs_of_a_detector(server):
    content = {
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 3], "data": [0] * (3 * SIDE * SIDE)}],
        "outputs": [{"name": "labels", "parameters": {"classification": 1}}],
    }
    response = server.client.post(f"/v2/models/{MODEL}/infer", json=content)
    assert is_problem(response, 400)
    assert "probabilities" not in response.json()["detail"]
    assert "boxes" in response.json()["detail"]


# Versions


def test_a_swap_to_another_input_size_under_load_fails_no_image_and_refuses_raw_tensors_cleanly(two_sizes):
    two_sizes.promote(1)
    two_sizes.add(2)
    tensors: list[httpx.Response] = []
    stop = threading.Event()

    def send_tensors(url: str) -> None:
        body, headers = raw_request(np.stack([sheets(0, (SIDE, SIDE))]))
        with httpx.Client(base_url=url, timeout=120) as client:
            while not stop.is_set():
                tensors.append(client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers))

    with served(two_sizes, limits=PATIENT) as server:
        others = [threading.Thread(target=send_tensors, args=(server.url,)) for _ in range(3)]
        with busy(int(server.url.rpartition(":")[2]), clients=6) as traffic:
            for thread in others:
                thread.start()
            for turn in range(6):
                version = 2 - turn % 2
                two_sizes.promote(version, kind="promote" if version == 2 else "rollback")
                server.wait_until(lambda wanted=version: server.serving() == wanted)
                seen = traffic.requests
                server.wait_until(lambda before=seen: traffic.requests >= before + 30)
            stop.set()
            for thread in others:
                thread.join()
        body, headers = raw_request(np.zeros((1, LARGER, LARGER, 3), np.uint8))
        assert is_problem(server.client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers), 400)
        assert server.serving() == 1
    assert traffic.failed == []
    assert traffic.dropped == 0
    assert set(traffic.acknowledged.values()) == {1, 2}
    assert {answer.status_code for answer in tensors} <= {200, 400, 503}
    assert {200, 400} <= {answer.status_code for answer in tensors}
    assert all(is_problem(answer, answer.status_code) for answer in tensors if answer.status_code != 200)
    entries = two_sizes.logged(1, 2)
    assert traffic.acknowledged.items() <= entries.items()
    assert len(entries) == len(traffic.acknowledged) + sum(answer.status_code == 200 for answer in tensors)


def loaded(world: World, version: int) -> Predictor:
    return load(
        world.folder(version), world.sha256[version], MODEL, version, PERSON, threads=1, at_once=lambda height, width: 4
    )


def test_a_raw_tensor_of_the_size_before_a_swap_fails_alone_in_its_batch(two_sizes):
    two_sizes.add(1)
    two_sizes.add(2)
    before, after = loaded(two_sizes, 1), loaded(two_sizes, 2)
    log = InferenceLog(connect(two_sizes.url))
    content, tensor = painted((80, 120)), sheets(0, (SIDE, SIDE))

    async def ask() -> list:
        metrics = Metrics.make(None)
        conditions = Conditions()
        commit = GroupCommit(log, InputStore(two_sizes.home / "inputs"), metrics.commit, conditions)
        batcher = Batcher(lambda: after, commit, Limits(), metrics, conditions)
        asked = [
            asyncio.ensure_future(batcher.predict(before.to_model_input([image]), [sent], 0.0))
            for image, sent in ((content, png(content)), (tensor, tensor), (content, png(content)))
        ]
        await asyncio.sleep(0)
        commit.start()
        batcher.start()
        predictions = await asyncio.gather(*asked, return_exceptions=True)
        batcher.stop()
        commit.stop()
        return predictions

    first, refused, last = asyncio.run(ask())
    assert isinstance(refused, HTTPException)
    assert refused.status_code == 503
    expected = after.predict(after.to_model_input([content])).outputs.predictions[0]
    for prediction in (first, last):
        np.testing.assert_allclose(prediction.outputs.predictions[0], expected, atol=1e-4)
    assert two_sizes.logged(2) == {first.ids[0]: 2, last.ids[0]: 2}


def test_images_are_prepared_anew_for_another_size_one_after_the_other(two_sizes):
    two_sizes.add(1)
    two_sizes.add(2)
    before, after = loaded(two_sizes, 1), loaded(two_sizes, 2)
    image = np.zeros((2000, 2000, 3), np.uint8)
    shown, sent = before.to_model_input([image] * 6), [png(image)] * 6
    tracemalloc.start()
    try:
        assert after.adapt(shown, sent).pixels.shape == (6, LARGER, LARGER, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * image.nbytes


def test_a_classifier_is_not_taken_into_service_by_a_server_of_detectors(two_sizes):
    two_sizes.promote(1)
    two_sizes.add_classifier(7)
    with served(two_sizes) as server:
        two_sizes.promote(7)
        server.wait_until(lambda: "version 7 was rejected" in (ready(server)["problem"] or ""))
        assert "boxes" in ready(server)["problem"]
        assert (ready(server)["champion"], ready(server)["serving"]) == (7, 1)
        assert server.predict(png(painted((50, 90)))).json()["model"]["version"] == 1
        two_sizes.promote(2)
        server.wait_until(lambda: server.serving() == 2)


def test_a_detector_is_not_taken_into_service_by_a_server_of_classifiers_which_draws_nothing(two_sizes):
    two_sizes.add_classifier(7)
    two_sizes.promote(7)
    with running(two_sizes) as server:
        two_sizes.promote(1)
        server.wait_until(lambda: "version 1 was rejected" in (ready(server)["problem"] or ""))
        assert "logits" in ready(server)["problem"]
        assert (ready(server)["champion"], ready(server)["serving"]) == (1, 7)
        answer = server.predict(png(images(1)[0])).json()
        assert answer["model"]["version"] == 7
        refused = server.predict(png(images(1)[0]), params={"draw": "1"})
        assert is_problem(refused, 422)
        assert "predicts classes, not boxes" in refused.json()["detail"]
        for label in ([], [one(name="class-1")]):
            response = told(server, label, answer["prediction_id"])
            assert is_problem(response, 422)
            assert "not a class of the model" in response.json()["detail"]
        assert told(server, 3, answer["prediction_id"]).status_code == 200


def not_as_trained(folder: Path) -> None:
    with np.load(folder / "golden.npz") as stored:
        np.savez(folder / "golden.npz", **{**stored, "boxes": stored["boxes"] + 1})


def without_answer(name: str):
    def spoil(folder: Path) -> None:
        with np.load(folder / "golden.npz") as stored:
            np.savez(folder / "golden.npz", **{key: stored[key] for key in stored if key != name})

    return spoil


def more_names(folder: Path) -> None:
    (folder / "model.json").write_text(json.dumps({"classes": ["person", "dog"]}))


@pytest.mark.parametrize("spoil", [not_as_trained, without_answer("scores"), without_answer("images"), more_names])
def test_a_detector_that_is_not_what_was_trained_is_not_loaded(two_sizes, spoil):
    two_sizes.add(1, spoil)
    with pytest.raises(ModelCorrupt):
        loaded(two_sizes, 1)


def test_a_sealed_classifier_and_a_sealed_detector_are_told_apart(two_sizes, tmp_path):
    folder = export_classifier(tmp_path / "classifier")
    Manifest.of(folder).write(folder / MANIFEST)
    with pytest.raises(ModelCorrupt, match="boxes"):
        load(folder, Manifest.of(folder).fingerprint, MODEL, 1, PERSON, 1, 4)
    two_sizes.add(1)
    with pytest.raises(ModelCorrupt, match="logits"):
        load(two_sizes.folder(1), two_sizes.sha256[1], MODEL, 1, CIFAR10, 1, 4)


# The process


def highest(process: psutil.Process) -> int:
    """The most memory that it ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_of_many_large_images_only_what_the_model_is_shown_is_kept(server):
    """Eight of 12 megapixels would be 288 MB: the most memory that the server ever had hardly grows."""
    large = png(np.zeros((3000, 4000, 3), np.uint8))
    process = psutil.Process(server.process.pid)
    for _ in range(2):
        server.predict(large)
    before = highest(process)
    response = server.client.post("/predict", files=[("file", (f"{i}.png", large)) for i in range(8)])
    assert len(response.json()["predictions"]) == 8
    assert highest(process) - before < 100 * 2**20


def test_every_reference_in_the_document_leads_somewhere(server):
    document = server.client.get("/openapi.json").json()
    references = list(references_in(document))
    assert "#/components/schemas/DetectionAnswer" in references
    for reference in references:
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    feedback = document["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "box" in json.dumps(feedback)
    assert "image/png" in document["paths"]["/predict"]["post"]["responses"]["200"]["content"]


def references_in(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        if isinstance(reference := found.get("$ref"), str):
            yield reference
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from references_in(part)


@pytest.mark.parametrize("requests", [30, pytest.param(3000, marks=pytest.mark.slow)])
def test_generated_requests_are_never_a_5xx_of_a_detector(server, requests):
    assert send_generated(server.url, requests=requests) >= requests / 2
