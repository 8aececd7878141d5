"""Who may do what over HTTP. The routes are those that the application has, so that a new one is tested by itself."""

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from pydantic import SecretStr
from versions import MODEL, World, images

from openmlops.core.images.decoding import png
from openmlops.errors import SettingsError
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig

TOKEN, READ_TOKEN = "the-token", "the-read-token"
PNG = png(images(1)[0])
HEALTH_PATHS = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
LOGIN, STATIC = "/console/login", "/console/static/console.css"
FREE = HEALTH_PATHS | {LOGIN, STATIC}
PAGE = f"/console/models/{MODEL}"
FILLED = {"name": MODEL, "model": MODEL, "version": "1", "part": "now", "path": "console.css"}
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World(tmp_path_factory.mktemp("served"))
    found.promote(1)
    return found


def config(world: World, token: str = TOKEN, read_token: str = READ_TOKEN) -> ServingConfig:
    return ServingConfig(
        model=MODEL,
        use_case="cifar10",
        home=world.home,
        database_url=SecretStr(world.url),
        tracking_uri=SecretStr(f"sqlite:///{world.home}/mlflow.db"),
        api_token=SecretStr(token),
        api_read_token=SecretStr(read_token),
    )


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[TestClient]:
    """Of a server with both tokens."""
    with TestClient(create_app(config(world))) as opened:
        yield opened


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that the application answers, parameters filled in."""
    found = [(route.methods, route.path) for route in iter_route_contexts(app.routes)]
    assert all(methods and path for methods, path in found), "a kind of route that this test does not know"
    return {(method, filled(path or "")) for methods, path in found for method in methods or ()}


def filled(path: str) -> str:
    return re.sub(r"{(\w+)(:\w+)?}", lambda part: FILLED.get(part[1], "x"), path)


def asked(client: TestClient, method: str, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return client.request(method, path, headers=headers, content=PNG if method not in SAFE_METHODS else None).status_code


def selected(client: TestClient, chosen: Callable[[str, str], bool]) -> list[tuple[str, str]]:
    """All but the login, which changes nothing but the visitor's cookie, and the stream, which never ends."""
    left_out = {("POST", LOGIN), ("GET", f"{PAGE}/events"), ("HEAD", f"{PAGE}/events")}
    return sorted(route for route in routes(client.app) - left_out if chosen(*route))  # type: ignore[arg-type]


def test_the_application_has_the_routes_that_these_tests_are_about(client: TestClient) -> None:
    changing = {path for method, path in routes(client.app) if method not in SAFE_METHODS}  # type: ignore[arg-type]
    assert changing >= {
        "/predict",
        "/feedback",
        "/trigger",
        f"/v2/models/{MODEL}/infer",
        f"/v2/models/{MODEL}/versions/1/infer",
        f"{PAGE}/promote",
        f"{PAGE}/rollback",
        f"{PAGE}/cycle",
    }


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("", 401), ("wrong", 401), (TOKEN + "x", 401), (READ_TOKEN, 403)])
def test_no_route_predicts_or_changes_anything_without_the_token(client: TestClient, token: str | None, status: int) -> None:
    changing = selected(client, lambda method, path: method not in SAFE_METHODS)
    assert {route: asked(client, *route, token) for route in changing} == dict.fromkeys(changing, status)


def test_with_the_token_every_route_is_reached(client: TestClient) -> None:
    found = {route: asked(client, *route, TOKEN) for route in selected(client, lambda method, path: True)}
    assert {route for route, status in found.items() if status in (401, 403)} == set()
    assert found["POST", "/predict"] == 200


@pytest.mark.parametrize("token", [None, "", "wrong", READ_TOKEN[:-1]])
def test_with_a_token_for_reading_nothing_but_the_probes_is_read_without_one(client: TestClient, token: str | None) -> None:
    reading = selected(client, lambda method, path: method in SAFE_METHODS)
    found = {route: asked(client, *route, token) for route in reading}
    assert {path for (_, path), status in found.items() if status != 401} == FREE
    assert {status for (_, path), status in found.items() if path in FREE} == {200}
    assert client.get(f"{PAGE}/events", headers={"Authorization": f"Bearer {token}"} if token else {}).status_code == 401


@pytest.mark.parametrize("token", [READ_TOKEN, TOKEN])
def test_either_token_reads_everything(client: TestClient, token: str) -> None:
    reading = selected(client, lambda method, path: method in SAFE_METHODS and not path.startswith("/console/models/"))
    assert {asked(client, *route, token) for route in reading} == {200}
    assert {asked(client, "GET", f"{PAGE}{part}", token) for part in ("", "/parts/now", "/parts/ledger")} == {200}


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/metrics", "/docs", "/openapi.json", "/nothing", "/health/live/", "//health/live", "/health/live/../../metrics"]
)
def test_there_is_no_way_around_the_token_for_reading(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code == 401
    assert client.request("GET", path).status_code == 401


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND"])
def test_a_method_that_nobody_knows_is_not_reading(client: TestClient, method: str) -> None:
    assert asked(client, method, "/metrics", None) == 401
    assert asked(client, method, "/metrics", READ_TOKEN) == 403


def test_without_a_token_for_reading_reading_is_free_but_for_the_console(world: World) -> None:
    with TestClient(create_app(config(world, read_token=""))) as opened:
        reading = selected(opened, lambda method, path: method in SAFE_METHODS)
        found = {route: asked(opened, *route, None) for route in reading}
        assert {path for (_, path), status in found.items() if status != 200} >= {"/", PAGE}
        assert {status for (_, path), status in found.items() if path == "/" or path.startswith(PAGE)} == {401}
        assert {status for (_, path), status in found.items() if path != "/" and not path.startswith(PAGE)} == {200}
        assert asked(opened, "POST", "/predict", None) == 401


@pytest.mark.parametrize(
    ("tokens", "named"),
    [(("", "read"), "without API_TOKEN"), (("same-one", "same-one"), "are the same")],
)
def test_tokens_that_protect_nothing_are_refused(world: World, tokens: tuple[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named) as raised:
        create_app(config(world, *tokens))
    assert "same-one" not in str(raised.value)


def test_no_answer_may_be_taken_for_something_else(client: TestClient) -> None:
    for path in ("/health/live", "/docs", "/metrics", "/nothing", "/static/../etc/passwd"):
        for token in (None, TOKEN):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            assert client.get(path, headers=headers).headers["x-content-type-options"] == "nosniff"
    page = client.get("/docs", headers={"Authorization": f"Bearer {TOKEN}"})
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "folder", ["/static", "/console/static/", "/console/static/vendor", "/models", "/v2/models", "/inputs", "/docs/", "/.env"]
)
def test_no_folder_is_listed(client: TestClient, world: World, folder: str) -> None:
    answer = client.get(folder, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 404
    assert not any(name in answer.text for name in (world.sha256[1], "openmlops.db", "manifest.json"))
