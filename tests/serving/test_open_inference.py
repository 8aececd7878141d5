"""The Open Inference Protocol: an off-the-shelf client works unchanged, and whatever is not the protocol is told so."""

import base64
import io
import json

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from servers import Server
from tritonclient.utils import InferenceServerException
from versions import MODEL, OUTPUTS, images

from openmlops.adapters.input_store import InputStore
from openmlops.adapters.onnx_model import OnnxModel
from openmlops.core.classification.task import CLASSIFICATION

SHAPE = [1, 32, 32, 3]


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as opened:
        yield opened


def given(batch: np.ndarray, binary: bool = True) -> list[triton.InferInput]:
    taken = triton.InferInput("images", batch.shape, "UINT8")
    taken.set_data_from_numpy(batch, binary_data=binary)
    return [taken]


def test_tritonclient_finds_server_and_model(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    assert {output["name"] for output in metadata["outputs"]} >= {"probabilities", "embedding", "prediction_id"}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritonclient_gets_the_models_answer(client, shared_world, binary_in, binary_out):
    batch = images(7, seed=3)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label", "prediction_id")]
    result = client.infer(MODEL, given(batch, binary_in), outputs=wanted, request_id="mine")
    expected = OnnxModel(shared_world.folder(1) / "model.onnx", OUTPUTS, 1).run(batch)["probabilities"]
    assert np.allclose(result.as_numpy("probabilities"), expected, atol=1e-6)
    assert (result.as_numpy("label") == expected.argmax(axis=1)).all()
    assert len(set(result.as_numpy("prediction_id").tolist())) == 7
    assert result.get_response()["model_version"] == "1"
    assert result.get_response()["id"] == "mine"


def test_without_named_outputs_all_come_as_bytes(client):
    result = client.infer(MODEL, given(images(2)), model_version="1")
    assert result.as_numpy("embedding").shape == (2, 3)
    assert result.as_numpy("logits").dtype == np.float32


def test_what_the_client_was_answered_is_in_the_log(client, log):
    result = client.infer(MODEL, given(images(4, seed=8)))
    ids = [name.decode() for name in result.as_numpy("prediction_id")]
    window = log.window(MODEL, 1, last=4)
    assert list(window.ids) == ids
    assert np.allclose(CLASSIFICATION.unpack(window.predictions, 10), result.as_numpy("probabilities"))


def as_files(batch: np.ndarray, kind: str) -> list[bytes]:
    contents = []
    for image in batch:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
        contents.append(buffer.getvalue())
    return contents


def given_files(files: list[bytes], binary: bool) -> list[triton.InferInput]:
    contents = files if binary else [base64.b64encode(content) for content in files]
    taken = triton.InferInput("images", [len(files)], "BYTES")
    taken.set_data_from_numpy(np.array(contents, dtype=object), binary_data=binary)
    return [taken]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_image_files_are_answered_as_their_pixels_are_and_logged_as_they_came(client, shared_world, log, kind, binary):
    batch = images(3, seed=4)
    files = as_files(batch, kind)
    answer = client.infer(MODEL, given_files(files, binary)).as_numpy("probabilities")
    assert np.allclose(answer, client.infer(MODEL, given(batch)).as_numpy("probabilities"), atol=1e-6)
    stored = InputStore(shared_world.home / "inputs")
    assert [stored.read(sha256) for sha256 in log.window(MODEL, 1, last=6).input_sha256[:3]] == files


def test_a_version_that_is_not_in_service_is_refused_by_name(client):
    with pytest.raises(InferenceServerException, match="Version 7 is not in service; 1 is"):
        client.infer(MODEL, given(images(1)), model_version="7")


def request(**changes: object) -> dict[str, object]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": SHAPE, "data": images(1).ravel().tolist()}
    return {"inputs": [{**tensor, **changes}]}


MALFORMED = {
    "not json": b"{",
    "empty": b"",
    "a list": b"[]",
    "null": b"null",
    "no inputs": {},
    "inputs is a text": {"inputs": "images"},
    "two inputs": {"inputs": request()["inputs"] * 2},
    "input is null": {"inputs": [None]},
    "another name": request(name="pixels"),
    "another datatype": request(datatype="FP32"),
    "datatype is a list": request(datatype=[]),
    "no shape": request(shape=None),
    "shape of texts": request(shape=["1", "32", "32", "3"]),
    "shape of floats": request(shape=[1.0, 32, 32, 3]),
    "shape of booleans": request(shape=[True, 32, 32, 3]),
    "negative n": request(shape=[-1, 32, 32, 3]),
    "n is 0": request(shape=[0, 32, 32, 3]),
    "n too large": request(shape=[10**9, 32, 32, 3]),
    "n beyond 64 bits": request(shape=[10**30, 32, 32, 3]),
    "another image size": request(shape=[1, 64, 64, 3]),
    "empty shape": request(shape=[]),
    "no data": request(data=None),
    "too little data": request(data=[1, 2, 3]),
    "data of floats": request(data=[0.5] * 3072),
    "data of texts": request(data=["1"] * 3072),
    "data beyond a byte": request(data=[256] * 3072),
    "negative data": request(data=[-1] * 3072),
    "huge data": request(data=[10**30] * 3072),
    "ragged data": request(data=[[1], [1, 2]]),
    "data is an object": request(data={"a": 1}),
    "data of nulls": request(data=[None] * 3072),
    "binary size without bytes": request(data=None, parameters={"binary_data_size": 3072}),
    "binary size is a text": request(parameters={"binary_data_size": "all"}),
    "parameters is a list": request(parameters=[]),
    "outer parameters is a number": {**request(), "parameters": 3},
    "id is a number": {**request(), "id": 3},
    "outputs is an object": {**request(), "outputs": {"name": "label"}},
    "output is a text": {**request(), "outputs": ["label"]},
    "unknown output": {**request(), "outputs": [{"name": "boxes"}]},
    "output name is a list": {**request(), "outputs": [{"name": []}]},
    "classification": {**request(), "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
    "a file that is no image": request(datatype="BYTES", shape=[1], data=["aGVsbG8="]),
    "a file that is not base64": request(datatype="BYTES", shape=[1], data=["h e l l o"]),
    "a file that is a number": request(datatype="BYTES", shape=[1], data=[3]),
    "files that are an object": request(datatype="BYTES", shape=[1], data={"a": "aGVsbG8="}),
    "fewer files than the shape": request(datatype="BYTES", shape=[2], data=["aGVsbG8="]),
    "files of a shape of pixels": request(datatype="BYTES", data=["aGVsbG8="]),
    "files without data": request(datatype="BYTES", shape=[1], data=None),
    "deeply nested": b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


def send(server: Server, content: object, path: str = f"/v2/models/{MODEL}/infer", **headers: str):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return server.client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_not_the_protocol_is_a_400_with_the_reason(server, content):
    response = send(server, content)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"] == response.json()["detail"] != ""


@pytest.mark.parametrize("length", ["-1", "1e3", "999999", "", "ten", "٣", "1" * 5000])
def test_a_wrong_header_length_is_a_400(server, length):
    headers = {"Inference-Header-Content-Length": length.encode()}
    assert send(server, request(), **headers).status_code == 400


def test_raw_bytes_of_another_size_than_the_shape_are_a_400(server):
    head = json.dumps(request(data=None, parameters={"binary_data_size": 3072})).encode().replace(b'"data": null, ', b"")
    for raw in (b"", b"x" * 3071, b"x" * 3073):
        assert send(server, head + raw, **{"Inference-Header-Content-Length": str(len(head))}).status_code == 400
    assert send(server, head + b"x" * 3072, **{"Inference-Header-Content-Length": str(len(head))}).status_code == 200


def test_raw_files_that_do_not_fill_their_lengths_are_a_400(server):
    (content,) = as_files(images(1), "PNG")
    good = len(content).to_bytes(4, "little") + content
    for raw, status in ((good, 200), (good[:-1], 400), (good + b"\x01", 400), (b"\xff\xff\xff\xff", 400), (b"", 400)):
        tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        assert send(server, head + raw, **{"Inference-Header-Content-Length": str(len(head))}).status_code == status


def test_another_model_or_version_is_a_404(server):
    for path in ("/v2/models/dogs/infer", f"/v2/models/{MODEL}/versions/9/infer", f"/v2/models/{MODEL}/versions/one/infer"):
        assert send(server, request(), path).status_code == 404


def test_an_encoded_body_is_a_415(server):
    assert send(server, request(), **{"Content-Encoding": "gzip"}).status_code == 415
