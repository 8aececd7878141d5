"""Whatever is given as a name, a version, a path or a URL stays that: no file outside is read or written, nobody is called who
may not be, no program is started, and the answer is one line (or a 4xx), never a traceback."""

import json
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hostile import STRINGS, filled
from mlflow import MlflowClient
from typer.main import get_command
from versions import MODEL, World
from watching import Seen, watched

from mlflow_tables import with_tables
from openmlops import cli
from openmlops.adapters import webhook
from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Decisions
from openmlops.adapters.object_store import FolderStore
from openmlops.adapters.tracking import Tracking
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.types import DatasetRef
from openmlops.errors import NotificationError, OpenMLOpsError, ServiceUnavailable
from openmlops.files import Manifest, sha256_of
from openmlops.operations.data import datasets, download, versions
from openmlops.operations.simulation import traffic
from openmlops.operations.workspace import Workspace
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig
from openmlops.settings import Settings
from openmlops.terminal import exit_code
from openmlops.usecases.base import load_use_case

PARSED = get_command(cli.app)
CANARY_TEXT = "the-canary-sings"
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
Use = Callable[[str], str]
"""uses a string; returns what was said of it, or raises an error of ours"""


@dataclass(frozen=True)
class Place:
    """A folder `here` that commands work in, and a canary two folders above it."""

    here: Path
    canary: Path

    def workspace(self, **given: str) -> Workspace:
        homes = {"OPENMLOPS_HOME": f"{self.here}/.openmlops", "DATA_RAW_DIR": f"{self.here}/raw"}
        given = {name.upper(): value for name, value in given.items()}
        return Workspace(Settings.load({**homes, **given}, Path("/nowhere")))

    def escapes(
        self,
        use: Use,
        may_read: bool = False,
        may_call: Callable[[str], bool] = lambda text: False,
        strings: Sequence[str] = STRINGS,
    ) -> dict[str, object]:
        """What went wrong with each of the strings. `may_call`: whether a string is one that names somebody to call."""
        found: dict[str, object] = {}
        for text in (filled(text, str(self.canary), 9) for text in strings):
            with watched() as seen:
                said = _outcome(use, text)
            if wrong := [*self._escaped(seen, may_read, may_call(text)), *_unfit(said)]:
                found[text] = wrong
        return found

    def _escaped(self, seen: Seen, may_read: bool, may_call: bool) -> Iterator[object]:
        if written := seen.outside(self.here, Path("/dev/null")):
            yield written
        if not may_read and (read := [path for path in seen.read if Path(path).is_relative_to(self.canary)]):
            yield read
        if seen.started or (seen.called and not may_call):
            yield seen.started | seen.called
        if sorted(path.name for path in self.canary.iterdir()) != ["evil.py", "secret.txt"]:
            yield "the canary has changed"


def _outcome(use: Use, text: str) -> str:
    try:
        return use(text)
    except OpenMLOpsError as error:
        return str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, it is an escape, and told with the string)
        return f"defect: {error!r}"


def _unfit(said: str) -> Iterator[str]:
    if len(said.splitlines()) > 1 or "defect" in said or CANARY_TEXT in said or len(said) > 6000:
        yield said[:500]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("root")
    here, canary = root / "work" / "here", root / "canary"
    for folder in (here / "tmp", canary):
        folder.mkdir(parents=True)
    (canary / "secret.txt").write_text(CANARY_TEXT)
    (canary / "evil.py").write_text(f"raise SystemExit({CANARY_TEXT!r})")
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(name.upper(), raising=False)
        patch.setenv("OPENMLOPS_HOME", f"{here}/.openmlops")
        patch.setenv("DATA_RAW_DIR", f"{here}/raw")
        patch.setattr(tempfile, "tempdir", str(here / "tmp"))
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.chdir(here)
        yield Place(here, canary)


@pytest.fixture(scope="module")
def registered(place: Place) -> Workspace:
    """A registry that knows one model, with one version, so that versions and aliases are looked up."""
    found = place.workspace()
    with_tables(found.home / "mlflow.db")
    assert (found.registry.models(), found.ledger.models()) == ((), ())
    client = MlflowClient(found.settings.tracking_uri, found.settings.tracking_uri)
    client.create_registered_model("cifar10_cnn")
    client.create_model_version("cifar10_cnn", f"file://{place.canary}")
    return found


@pytest.fixture
def command(registered: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Gives a command in this process, as `openmlops` would get it; what it said. It must be refused.

    The commands and their options are read from the functions once, which takes longer than most of them.
    """
    monkeypatch.setattr(cli, "app", PARSED)

    def give(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["openmlops", *words])
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            code = exit_code(cli._run)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        if "--help" in words:
            return ""
        assert code in (1, 2), "2: not understood"
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        return captured.err

    return give


def test_there_are_enough_of_them() -> None:
    assert len(STRINGS) >= 150


COMMANDS = (
    "evaluate {}@champion", "evaluate cifar10_cnn@{}", "promote cifar10_cnn/{}", "promote {}", "verify {}/1", "history {}",
    "rollback {}", "rollback cifar10_cnn --reason {}", "why {}", "decisions --last {}", "data status {}", "train --set {}=1",
    "monitor --source {}", "traffic --corrupt {}",
)  # fmt: skip


SHARE = 8
HALVES, QUARTERS = (pytest.mark.parametrize("share", [part, pytest.param(1, marks=pytest.mark.slow)]) for part in (2, 4))
"""Of several ways each gets a part of the strings every day, so that all are used; all strings in the slow tests."""


def share_of(strings: Sequence[str], number: int, share: int) -> Sequence[str]:
    return strings[number % share :: share]


@pytest.mark.parametrize(("first", "line"), [(number % SHARE, line) for number, line in enumerate(COMMANDS)])
def test_no_command_is_led_astray_by_its_share_of_the_strings(
    place: Place, command: Callable[..., str], first: int, line: str
) -> None:
    """Each string meets one or two commands here, and all of them in the slow test."""
    strings = STRINGS[first::SHARE]
    assert place.escapes(lambda text: command(*(word.replace("{}", text) for word in line.split())), strings=strings) == {}


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_is_led_astray(place: Place, command: Callable[..., str], line: str) -> None:
    assert place.escapes(lambda text: command(*(word.replace("{}", text) for word in line.split()))) == {}


@HALVES
@pytest.mark.parametrize(("number", "line"), enumerate(["data add {}", "data fetch cifar10 --archive {}"]))
def test_a_command_that_reads_what_it_is_given_tells_nothing_of_it(
    place: Place, command: Callable[..., str], number: int, line: str, share: int
) -> None:
    strings = share_of(STRINGS, number, share)
    found = place.escapes(
        lambda text: command(*(word.replace("{}", text) for word in line.split())), may_read=True, strings=strings
    )
    assert found == {}


def test_models_that_somebody_else_named_are_listed_all_the_same(place: Place, registered: Workspace) -> None:
    from openmlops.operations.release.listing import overview

    client = MlflowClient(registered.settings.tracking_uri, registered.settings.tracking_uri)
    client.create_registered_model("it's theirs")
    assert [row.name for row in overview(registered)] == ["cifar10_cnn"]


# Settings


def test_a_model_is_called_plainly(place: Place) -> None:
    def use(text: str) -> str:
        assert not text.strip() or PLAIN.fullmatch(name := place.workspace(model_name=text).model_name), name
        return ""

    assert place.escapes(use) == {}


def test_a_use_case_is_no_path(place: Place) -> None:
    def use(text: str) -> str:
        return f"a defect: {load_use_case(text)} was loaded"

    assert place.escapes(use) == {}


@pytest.mark.parametrize("setting", ["openmlops_home", "data_raw_dir", "artifacts_dir", "monitoring_dir"])
def test_a_folder_is_one_that_can_be_printed(place: Place, setting: str) -> None:
    attribute = {"openmlops_home": "home", "data_raw_dir": "data_folder"}.get(setting, setting.removesuffix("_dir"))

    def use(text: str) -> str:
        found = getattr(place.workspace(**{setting: text}), attribute)
        assert found.is_absolute()
        assert str(found).isprintable()
        return ""

    assert place.escapes(use) == {}


def test_a_bucket_is_called_plainly(place: Place) -> None:
    def use(text: str) -> str:
        found = place.workspace(minio_bucket=text, minio_endpoint_url="http://127.0.0.1:9")
        remote = found.data_versions.remote.url
        assert not text.strip() or PLAIN.fullmatch(remote.removeprefix("s3://").removesuffix("/dvc")), remote
        assert found.object_store.uri("x").endswith("/x")
        return ""

    assert place.escapes(use) == {}


def test_the_files_of_an_experiment_stay_in_a_folder_of_their_own(place: Place, registered: Workspace) -> None:
    root = place.here / "experiments"

    def use(text: str) -> str:
        tracking = Tracking(registered.settings.tracking_uri, text, root)
        found = Path(tracking._client.get_experiment(tracking._experiment_id()).artifact_location.removeprefix("file://"))
        assert found.resolve().parent == root
        return ""

    assert place.escapes(use) == {}


def test_the_prefix_of_uploads_stays_in_the_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.here / "set"
    folder.mkdir()
    (folder / "rows.bin").write_bytes(b"rows")
    ref = DatasetRef(name="x", fingerprint=Manifest.of(folder).fingerprint, rows=1)
    monkeypatch.setattr(versions, "local", lambda workspace, version: folder)

    def use(text: str) -> str:
        uri = datasets.upload(place.workspace(minio_data_prefix=text), ref).uri
        assert uri.startswith(f"file://{place.here}/.openmlops/object-store/")
        return ""

    assert place.escapes(use) == {}


@pytest.mark.parametrize("way", ["put", "get", "exists", "size", "uri"])
def test_object_keys_stay_in_the_store(place: Place, way: str) -> None:
    file, store = place.here / "file.bin", FolderStore(place.here / "store")
    file.write_bytes(b"content")
    ways: dict[str, Callable[[str], object]] = {
        "put": lambda key: store.put_file(key, file, sha256_of(file)),
        "get": lambda key: store.get_file(key, place.here / "back.bin"),
        "exists": lambda key: store.exists(f"data/{key}"),
        "size": store.size,
        "uri": store.uri,
    }
    assert place.escapes(lambda text: str(ways[way](text))) == {}


def test_a_dvc_remote_is_an_address_or_it_is_refused(place: Place) -> None:
    """An absolute folder and a URL are what the setting is for; everything else is refused before DVC sees it."""

    def use(text: str) -> str:
        url = place.workspace(dvc_remote=text).data_versions.remote.options()["url"]
        assert re.match(r"/|(s3|ssh|https?)://[^/@\\]", url)
        assert ".." not in url.split("://")[0].split("/")
        return ""

    assert place.escapes(use) == {}


# HTTP, as a server

PARTS_OF_A_PAGE = ("parts/{}", "decisions/{}/report", "images/{}")


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    world = World(place.here / "served")
    world.home.mkdir()
    world.promote(1)
    config = ServingConfig(
        model=MODEL, use_case="cifar10", home=world.home, database_url=world.url, tracking_uri="sqlite:///x/mlflow.db"
    )
    with TestClient(create_app(config), "http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened


def sent(client: TestClient, method: str, path: str) -> tuple[int, str]:
    """Status and body of the answer to exactly this path; clients of HTTP would tidy it up before they send it."""
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "method": method}
    scope |= {"path": unquote(path), "raw_path": path.encode(), "root_path": "", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")]}
    messages: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: dict) -> None:
        messages.append(message)

    assert client.portal
    client.portal.call(client.app, scope, receive, send)
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages).decode()


PATHS = ("/v2/models/{}", f"/v2/models/{MODEL}/versions/{{}}", "/{}", "/v2/models/{}/infer")


@QUARTERS
@pytest.mark.parametrize(("number", "path"), enumerate(PATHS))
def test_no_path_is_led_astray(place: Place, client: TestClient, number: int, path: str, share: int) -> None:
    def use(text: str) -> str:
        once = quote(text.encode("utf-8", "surrogatepass"), safe="")
        paths = [path.replace("{}", part) for part in (once, quote(once, safe=""))]
        predictions = [sent(client, method, found) for found in paths for method in ("GET", "POST")]
        assert {status for status, _ in predictions} <= {404, 405}
        return "".join(" ".join(body.split()) for _, body in predictions)[:5000]

    assert place.escapes(use, strings=share_of(STRINGS, number, share)) == {}


PAGES = ("/console/{}", "/console/static/{}", "/console/models/{}")


@QUARTERS
@pytest.mark.parametrize(
    ("number", "path"), enumerate([*PAGES, *(f"/console/models/{MODEL}/{part}" for part in PARTS_OF_A_PAGE)])
)
def test_no_path_of_the_console_is_led_astray(place: Place, client: TestClient, number: int, path: str, share: int) -> None:
    def use(text: str) -> str:
        status, body = sent(client, "GET", path.replace("{}", quote(text.encode("utf-8", "surrogatepass"), safe="")))
        assert status in (303, 404, 405)
        return " ".join(body.split())[:5000]

    assert place.escapes(use, strings=share_of(STRINGS, number, share)) == {}


@HALVES
@pytest.mark.parametrize(("number", "field"), enumerate(["prediction_id", "label"]))
def test_no_feedback_is_led_astray(place: Place, client: TestClient, number: int, field: str, share: int) -> None:
    def use(text: str) -> str:
        body = {"prediction_id": "01890a5d-ac96-774b-bcce-b302099a8057", "label": 1, field: text}
        answer = client.post("/feedback", content=json.dumps(body))
        assert answer.status_code in (404, 422)
        return " ".join(answer.text.split())[:5000]

    assert place.escapes(use, strings=share_of(STRINGS, number, share)) == {}


def test_the_reason_of_a_trigger_is_kept_as_one_printable_line(place: Place, client: TestClient) -> None:
    kept = Decisions(connect(f"sqlite:///{place.here}/served/openmlops.db"))

    def use(text: str) -> str:
        answer = client.post("/trigger", content=json.dumps({"reason": text}))
        assert answer.status_code in (202, 422)
        if answer.status_code == 202:
            (reason,) = kept.get(answer.json()["decision_id"]).reasons
            assert reason.isprintable()
        return " ".join(answer.text.split())[:5000]

    assert place.escapes(use) == {}


# HTTP, as a client


def is_http(text: str) -> bool:
    return text.lower().startswith(("http:", "https:"))


def test_a_webhook_calls_nobody_who_is_not_allowed(place: Place) -> None:
    def use(text: str) -> str:
        with watched() as seen:
            try:
                webhook.post(text, {"action": "retrain"}, ["allowed.example"], "id")
            finally:
                assert seen.called <= {"allowed.example"}
        return "a defect: it was taken"

    assert place.escapes(use) == {}


def test_the_allowed_host_is_called() -> None:
    with watched() as seen, pytest.raises(NotificationError, match="did not accept"):
        webhook.post("http://allowed.example/x", {}, ["allowed.example"], "id")
    assert seen.called == {"allowed.example"}


def stream() -> traffic.Stream:
    return traffic.Stream(np.zeros((1, 4, 4, 3), np.uint8), np.zeros(1, np.int64), CLASSIFICATION)


def test_a_client_of_a_server_speaks_http_or_not_at_all(place: Place) -> None:
    def use(text: str) -> str:
        return f"a defect: {traffic.send(text, stream(), count=1, token='secret')}"

    assert place.escapes(use, may_call=is_http) == {}


def test_a_mirror_is_asked_over_http_or_not_at_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)

    def use(text: str) -> str:
        return f"a defect: {download.download(text, place.here / 'downloads' / 'archive', 'md5:0')}"

    assert place.escapes(use, may_call=is_http) == {}


class Redirecting(BaseHTTPRequestHandler):
    """Sends everybody on to `elsewhere`."""

    elsewhere = ""
    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        self.send_response(307)
        self.send_header("Location", self.elsewhere)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def redirecting() -> Iterator[tuple[str, list[str]]]:
    """A server that redirects to a second one, and what the second was asked."""
    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), type("Canary", (Redirecting,), {"asked": asked})) as canary:
        elsewhere = f"http://127.0.0.1:{canary.server_port}/canary"
        with HTTPServer(("127.0.0.1", 0), type("First", (Redirecting,), {"asked": [], "elsewhere": elsewhere})) as first:
            for found in (canary, first):
                threading.Thread(target=found.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{first.server_port}", asked
            for found in (canary, first):
                found.shutdown()


def test_no_redirect_is_followed_with_a_decision_or_a_token(redirecting: tuple[str, list[str]]) -> None:
    url, asked = redirecting
    with pytest.raises(NotificationError, match="307"):
        webhook.post(url, {}, ["127.0.0.1"], "id")
    with pytest.raises(ServiceUnavailable, match="307"):
        traffic.send(url, stream(), count=1, token="secret")
    assert asked == []
