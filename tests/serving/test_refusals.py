"""What the server refuses, each with problem details and never a 5xx: broken bodies, too much, strangers."""

import json
import socket
import time

import numpy as np
import psutil
import pytest
from servers import Server, answers, jpeg, png, running, start
from versions import images

from openmlops.errors import SettingsError
from openmlops.serving.config import ServingConfig
from openmlops.serving.run import serve

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
PNG = png(images(1)[0])
JPEG = jpeg(images(1)[0])


def png_header(width: int, height: int) -> bytes:
    return PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + PNG[24:]


BODIES = {
    "empty": b"",
    "a text": b"hello",
    "zeros": bytes(1000),
    "html": b"<html></html>",
    "a gif": b"GIF89a" + bytes(100),
    "a bmp": b"BM" + bytes(100),
    "a tiff": b"II*\x00" + bytes(100),
    "a webp": b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(50),
    "a zip": b"PK\x03\x04" + bytes(100),
    "json": b'{"image": "..."}',
    "png signature": PNG[:8],
    "png header": PNG[:33],
    "half a png": PNG[: len(PNG) // 2],
    "png without its end": PNG[:-100],
    "png with a flipped byte": PNG[:100] + bytes([PNG[100] ^ 255]) + PNG[101:],
    "png of no width": png_header(0, 32),
    "png of a huge width": png_header(2**31 - 1, 2**31 - 1),
    "png of another size than its pixels": png_header(33, 33),
    "jpeg signature": JPEG[:4],
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "jpeg header": JPEG[:100],
    "jpeg then zeros": JPEG[:50] + bytes(500),
}


def is_problem(response, status: int) -> bool:
    problem = response.json()
    return (
        response.status_code == status == problem["status"]
        and response.headers["content-type"] == "application/problem+json"
        and problem["detail"] != ""
        and problem["type"] == "about:blank"
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_image_is_a_422(server, body):
    assert is_problem(server.predict(body), 422)


MULTIPART = {
    "no boundary": ("multipart/form-data", b"x", 400),
    "wrong boundary": ("multipart/form-data; boundary=a", b"--b\r\n\r\n--b--", 400),
    "no parts": ("multipart/form-data; boundary=a", b"--a--\r\n", 422),
    "a field": (
        "multipart/form-data; boundary=a",
        b'--a\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--a--\r\n',
        422,
    ),
    "no name": ("multipart/form-data; boundary=a", b"--a\r\nContent-Disposition: form-data\r\n\r\nx\r\n--a--\r\n", 400),
    "cut": ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx', 422),
    "empty": ("multipart/form-data; boundary=a", b"", 422),
}


@pytest.mark.parametrize(("content_type", "body", "status"), MULTIPART.values(), ids=MULTIPART.keys())
def test_broken_multipart_bodies_are_refused(server, content_type, body, status):
    assert is_problem(server.predict(body, headers={"Content-Type": content_type}), status)


def test_more_images_than_allowed_are_refused(server):
    files = [("file", (f"{i}.png", PNG)) for i in range(257)]
    assert is_problem(server.client.post("/predict", files=files), 400)


def test_one_broken_image_among_several_refuses_all_of_them(server, log):
    before = log.count("pets", 1)
    files = [("file", ("a.png", PNG)), ("file", ("b.png", PNG[:50]))]
    assert is_problem(server.client.post("/predict", files=files), 422)
    assert log.count("pets", 1) == before


FEEDBACK = {
    "empty": b"",
    "not json": b"{",
    "a list": b"[]",
    "no label": {"prediction_id": UNKNOWN},
    "no prediction": {"label": 1},
    "another field": {"prediction_id": UNKNOWN, "label": 1, "weight": 2},
    "id is no uuid": {"prediction_id": "' OR 1=1", "label": 1},
    "id with a zero byte": {"prediction_id": "\u0000" * 36, "label": 1},
    "label is a float": {"prediction_id": UNKNOWN, "label": 1.5},
    "label is true": {"prediction_id": UNKNOWN, "label": True},
    "label is null": {"prediction_id": UNKNOWN, "label": None},
    "label is a list": {"prediction_id": UNKNOWN, "label": [1]},
    "not utf-8": b'{"prediction_id": "\xff", "label": 1}',
    "deeply nested": b"[" * 100_000,
}


@pytest.mark.parametrize("body", FEEDBACK.values(), ids=FEEDBACK.keys())
def test_what_is_no_feedback_is_a_422(server, body):
    content = body if isinstance(body, bytes) else json.dumps(body)
    assert is_problem(server.client.post("/feedback", content=content), 422)


def test_feedback_for_an_unknown_prediction_is_a_404(server):
    assert is_problem(server.client.post("/feedback", json={"prediction_id": UNKNOWN, "label": 1}), 404)


@pytest.mark.parametrize("label", [-1, 10, 10**30, "bird", ""])
def test_a_label_that_is_no_class_is_a_422(server, label):
    prediction = server.predict(PNG).json()["prediction_id"]
    assert is_problem(server.client.post("/feedback", json={"prediction_id": prediction, "label": label}), 422)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("DELETE", "/feedback", 405),
        ("GET", "/nothing", 404),
        ("POST", "/docs", 405),
        ("PUT", "/v2", 405),
    ],
)
def test_other_paths_and_methods_are_problems_too(server, method, path, status):
    assert is_problem(server.client.request(method, path), status)


def test_a_png_of_100_megapixels_is_refused_without_being_decoded(world):
    bomb = png(np.zeros((10_000, 10_000), bool))  # a bit a pixel in the file, three bytes once it is read
    world.promote(1)
    with running(world) as server:
        server.predict(PNG)
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        response = server.predict(bomb)
        grown = process.memory_info().rss - before
    assert is_problem(response, 422)
    assert "10000x10000" in response.json()["detail"]
    assert grown < 20 * 2**20


@pytest.fixture(scope="module")
def small_server(tmp_path_factory):
    """A server of small limits that asks for a token."""
    from versions import World

    world = World(tmp_path_factory.mktemp("small"))
    world.promote(1)
    limits = {"body_bytes": 10_000, "body_seconds": 2.0, "in_flight": 2}
    with running(world, api_token="secret", limits=limits) as started:
        yield started


TOKEN = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("authorization", [None, "", "secret", "Bearer", "Bearer wrong", "Basic secret", "Bearer secret2"])
@pytest.mark.parametrize("path", ["/predict", "/feedback", "/v2/models/pets/infer", "/nothing"])
def test_without_the_token_nothing_is_predicted_or_changed(small_server, authorization, path):
    headers = {} if authorization is None else {"Authorization": authorization}
    response = small_server.client.post(path, content=PNG, headers=headers)
    assert is_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


def test_with_the_token_predictions_are_answered_and_health_needs_none(small_server):
    assert small_server.predict(PNG, headers=TOKEN).status_code == 200
    assert small_server.client.get("/health/ready").status_code == 200


def test_a_body_that_is_too_large_is_refused_by_its_header_and_while_it_comes(small_server):
    assert is_problem(small_server.predict(bytes(10_001), headers=TOKEN), 413)
    assert is_problem(small_server.predict(iter([bytes(5000)] * 3), headers=TOKEN), 413)


def slow(server: Server) -> socket.socket:
    """A client that has sent half of its body and then waits."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)), timeout=60)
    opened.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 100\r\n\r\nhalf")
    return opened


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"1" * 30, b"1" * 5000])
def test_a_strange_content_length_is_no_5xx(small_server, length):
    host, _, port = small_server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as opened:
        opened.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: " + length + b"\r\n\r\n"
        )
        assert opened.recv(1000)[:10] == b"HTTP/1.1 4"


def test_a_body_that_does_not_come_is_a_408(small_server):
    with slow(small_server) as opened:
        assert opened.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://evil.example:8000", "null", "http://localhost.evil.example"]
)
def test_a_page_of_another_site_cannot_use_a_server_without_a_token(server, origin):
    assert is_problem(server.predict(PNG, headers={"Origin": origin}), 403)


@pytest.mark.parametrize("path", ["/predict", "/trigger", "/feedback", "/v2/models/pets/infer"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_sends_for_another_site_is_refused_with_and_without_a_token(server, small_server, path, site):
    headers = {"Sec-Fetch-Site": site}
    assert is_problem(server.client.post(path, content=PNG, headers=headers), 403)
    assert is_problem(small_server.client.post(path, content=PNG, headers={**TOKEN, **headers}), 403)
    headers = {"Sec-Fetch-Site": site, "Origin": "http://localhost:3000"}
    assert server.predict(PNG, headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::1", "192.0.2.1"])
def test_without_a_token_nothing_but_the_probes_answers_under_a_foreign_name(server, host):
    headers = {"Host": host}
    for path in ("/docs", "/openapi.json", "/metrics", "/v2", "/v2/models/pets", "/", "/nothing"):
        assert server.client.get(path, headers=headers).status_code == 403
    assert server.predict(PNG, headers=headers).status_code == 403
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert server.client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000"])
def test_a_page_of_this_machine_can(server, origin):
    assert server.predict(PNG, headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_than_loopback_needs_a_token(world, host):
    config = ServingConfig(
        model="pets", use_case="cifar10", home=world.home, database_url=world.url, tracking_uri="sqlite://", host=host
    )
    with pytest.raises(SettingsError, match="API_TOKEN"):
        serve(config)


def test_an_address_that_is_taken_is_told_in_one_line(server, world):
    port = int(server.url.rpartition(":")[2])
    config = ServingConfig(
        model="pets", use_case="cifar10", home=world.home, database_url=world.url, tracking_uri="sqlite://", port=port
    )
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
        serve(config)


def test_without_a_champion_the_server_lives_but_is_not_ready(world):
    server = start(world)
    try:
        assert answers(server)
        assert is_problem(server.predict(PNG), 503)
        ready = server.client.get("/health/ready")
        assert ready.status_code == 503
        assert "champion" in ready.json()["problem"]
        assert server.client.get("/v2/health/ready").status_code == 400
        world.promote(1)
        server.wait_until(lambda: server.serving() == 1)
        assert server.predict(PNG).status_code == 200
    finally:
        server.process.terminate()
        server.process.join()


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("path", ["/predict", "/feedback", "/console/login"])
def test_a_client_that_hangs_up_while_it_sends_leaves_no_traceback(server, path, content_type):
    host, port = server.url.removeprefix("http://").split(":")
    before = len(server.log.read_text())
    for _ in range(3):
        with socket.create_connection((host, int(port))) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: 1000\r\n\r\n"
            client.sendall(head.encode() + b"--x\r\n")
            time.sleep(0.02)  # the server has begun to read
    server.wait_until(lambda: "openmlops_in_flight 0.0" in server.client.get("/metrics").text)
    assert server.log.read_text()[before:] == ""
