"""POST /predict and /feedback as a client sees them, and that what it was told is what is in the log."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from servers import jpeg, png
from versions import CLASSES, MODEL, OUTPUTS, images

from openmlops.adapters.input_store import InputStore
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.images.decoding import FORMATS


def test_an_answer_is_what_the_model_says_with_names(server, shared_world):
    image = images(1, seed=5)
    answer = server.predict(png(image[0])).json()
    expected = OnnxModel(shared_world.folder(1) / "model.onnx", OUTPUTS, 1).run(image)["probabilities"][0]
    assert answer["model"] == {"name": MODEL, "version": 1}
    assert answer["label"] == expected.argmax()
    assert answer["class_name"] == CLASSES[expected.argmax()]
    assert answer["probability"] == pytest.approx(expected.max(), abs=1e-5)
    assert list(answer["probabilities"]) == list(CLASSES)
    assert np.allclose(list(answer["probabilities"].values()), expected, atol=1e-5)


def test_a_jpeg_and_another_size_are_answered(server):
    big = np.repeat(np.repeat(images(1)[0], 20, axis=0), 20, axis=1)
    assert server.predict(jpeg(images(1)[0])).status_code == 200
    assert server.predict(png(big)).status_code == 200


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_a_data_set_may_hold_is_answered(server, kind):
    buffer = io.BytesIO()
    Image.fromarray(images(1)[0]).save(buffer, kind)
    assert server.predict(buffer.getvalue()).json()["label"] in range(len(CLASSES))


def test_the_content_type_that_curl_sends_by_default_is_fine(server):
    assert server.predict(png(images(1)[0]), headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 200


def test_several_images_are_answered_in_order(server):
    several = images(5, seed=9)
    response = server.client.post("/predict", files=[("file", (f"{i}.png", png(image))) for i, image in enumerate(several)])
    alone = [server.predict(png(image)).json() for image in several]
    together = response.json()["predictions"]
    assert [answer["label"] for answer in together] == [answer["label"] for answer in alone]
    assert len({answer["prediction_id"] for answer in together + alone}) == 10


def test_the_log_holds_what_was_answered(server, log, shared_world):
    content = png(images(1, seed=77)[0])
    response = server.predict(content)
    answer = response.json()
    window = log.window(MODEL, 1, last=1)
    assert window.ids == (answer["prediction_id"],)
    assert np.allclose(np.frombuffer(window.predictions[0], np.float32), list(answer["probabilities"].values()), atol=1e-7)
    assert window.layout.classes == CLASSES
    assert {"image.brightness", "logprob.0", "embedding.0"} <= set(window.columns())
    assert 0 < window.latency_ms[0] <= 1000 * response.elapsed.total_seconds(), "no longer than the client waited"
    assert window.input_sha256 == (hashlib.sha256(content).hexdigest(),)
    assert InputStore(shared_world.home / "inputs").read(window.input_sha256[0]) == content


def test_a_label_joins_its_prediction_once(server, log):
    prediction = server.predict(png(images(1)[0])).json()["prediction_id"]
    told = [
        server.client.post("/feedback", content=f'{{"prediction_id": "{prediction}", "label": {label}}}')
        for label in ("3", '"class-3"', "4")
    ]
    assert [response.status_code for response in told] == [200, 200, 409]
    assert [response.json()["recorded"] for response in told[:2]] == [True, False]
    assert log.window(MODEL, 1, last=1).labels == ("3",)


def test_health_metrics_and_documents(server):
    server.predict(png(images(1)[0]))
    assert server.client.get("/health/live").json() == {"status": "live"}
    assert server.client.get("/health/ready").json() == {
        "serving": 1,
        "champion": 1,
        "database": True,
        "spooled": None,
        "stores": True,
        "problem": None,
    }
    metrics = server.client.get("/metrics").text
    assert 'openmlops_predictions_total{version="1"}' in metrics
    assert "openmlops_serving_version 1.0" in metrics
    assert "/predict" in server.client.get("/openapi.json").json()["paths"]


def test_the_page_of_the_routes_loads_nothing_from_outside(server):
    page = server.client.get("/docs").text
    assert "/v2/models/{name}/infer" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
