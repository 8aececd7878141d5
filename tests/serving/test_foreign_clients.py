"""What clients that nobody here wrote do: offers of HTTP/2, HEAD, other origins, null for what is optional, proxies."""

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from servers import png, running
from versions import images

from openmlops.errors import SettingsError
from openmlops.settings import Settings
from openmlops.web.forwarded import networks

H2C = (
    "POST /predict HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: {length}\r\nHost: 127.0.0.1\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\nUpgrade: h2c\r\n"
    "User-Agent: Java-http-client/21\r\nContent-Type: image/png\r\n\r\n"
)


@pytest.fixture
def content() -> bytes:
    return png(images(1)[0])


@pytest.mark.parametrize("cut", [None, 150, 200, 3], ids=["at once", "within Upgrade", "behind it", "byte by byte at first"])
def test_the_offer_of_http_2_that_java_makes_is_ignored_and_the_request_served(server, content: bytes, cut: int | None) -> None:
    """The bytes that java.net.http.HttpClient of Java 21 sends first on a connection without TLS."""
    header = H2C.format(length=len(content)).encode()
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=120) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if cut:
            connection.sendall(header[:cut])
        connection.sendall(header[cut or 0 :] + content)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 2, received
    assert b"prediction_id" in received


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/v2", "/v2/", "/v2/health/live", "/metrics", "/openapi.json", "/docs"]
)
def test_head_is_answered_wherever_get_is(server, path: str) -> None:
    got, head = server.client.get(path), server.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


def test_the_id_of_a_prediction_is_taken_in_any_case(server, content: bytes) -> None:
    prediction = server.predict(content).json()["prediction_id"]
    answer = server.client.post("/feedback", json={"prediction_id": prediction.upper(), "label": 0})
    assert answer.json() == {"prediction_id": prediction, "recorded": True}


def test_null_stands_for_an_optional_field_of_the_open_inference_protocol(server, content: bytes) -> None:
    served = server.predict(content).json()["model"]["name"]
    (expected,) = server.client.get(f"/v2/models/{served}").json()["inputs"]
    shape = [1, *expected["shape"][1:]]
    count = shape[1] * shape[2] * shape[3]
    tensor = {"name": "images", "datatype": "UINT8", "shape": shape, "data": [0] * count, "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    answer = server.client.post(f"/v2/models/{served}/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert "id" not in answer.json()
    body["outputs"] = [{"name": "prediction_id", "parameters": None}]
    assert len(server.client.post(f"/v2/models/{served}/infer", content=json.dumps(body)).json()["outputs"]) == 1


def test_pages_of_named_origins_may_call_the_api_and_no_others(shared_world, content: bytes) -> None:
    settings = Settings(cors_origins="https://app.example, https://b.example", trusted_proxies="127.0.0.1")
    ours = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with running(shared_world, api_token="a-token-of-ours", settings=settings) as server:
        preflight = server.client.options("/predict", headers=ours | asks)
        token = {"Authorization": "Bearer a-token-of-ours"}
        answer = server.predict(content, headers=ours | token)
        other = {"Origin": "https://other.example"}
        refused = server.client.options("/predict", headers=other | asks)
        stopped = server.predict(content, headers=other | {"Sec-Fetch-Site": "cross-site"} | token)
    assert preflight.status_code == 200, preflight.text
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "access-control-allow-origin" not in refused.headers
    assert stopped.status_code == 403


def test_without_the_setting_no_origin_is_allowed(server) -> None:
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.client.options("/predict", headers=asks).headers


def test_a_connection_is_kept_for_longer_than_a_proxy_keeps_it() -> None:
    from openmlops.serving.config import ServingConfig
    from openmlops.serving.run import uvicorn_config

    places = {"home": "/h", "database_url": "sqlite:///x", "tracking_uri": "sqlite:///y"}
    found = uvicorn_config(ServingConfig(model="m", use_case="cifar10", **places))
    assert found.timeout_keep_alive > 60


@pytest.mark.parametrize("text", ["nowhere", "10.0.0.0/33", "10.0.0.1/8"])
def test_what_is_no_proxy_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=f"TRUSTED_PROXIES names '{text}'"):
        networks(text)


def test_only_a_trusted_proxy_is_believed() -> None:
    import asyncio

    from openmlops.web.forwarded import ForwardedMiddleware

    told: list[tuple[str, str, str]] = []

    async def app(scope, receive, send) -> None:
        headers = dict(scope["headers"])
        told.append((scope["scheme"], headers[b"host"].decode(), scope["client"][0]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(trusted: str) -> None:
        transport = httpx.ASGITransport(ForwardedMiddleware(app, networks(trusted)), client=("127.0.0.1", 5))
        headers = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "ml.example",
            "X-Forwarded-For": "198.51.100.1, 203.0.113.9, 127.0.0.2",
        }
        async with httpx.AsyncClient(transport=transport, base_url="http://inner") as client:
            await client.get("/", headers=headers)

    asyncio.run(ask("127.0.0.0/8"))
    asyncio.run(ask("10.0.0.1"))
    assert told == [("https", "ml.example", "203.0.113.9"), ("http", "inner", "127.0.0.1")]
