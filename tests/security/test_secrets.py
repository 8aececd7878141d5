"""What is secret is found nowhere: planted in the environment of real commands, looked for in whatever they said and left."""

import base64
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import numpy as np
import pytest
from pydantic import SecretStr
from versions import images

from openmlops.core.images.decoding import png
from openmlops.core.types import Value
from openmlops.errors import OpenMLOpsError, hide_passwords, one_line
from openmlops.settings import Settings
from openmlops.terminal import exit_code
from ports import free_port
from processes import process
from user_folder import PROGRAM, Folder

pytestmark = pytest.mark.servers

AWKWARD = "p@ss:w/rd%{} #1"
"""a password that looks different in a URL"""

EMBEDDED = {
    "API_TOKEN": "planted-api-token",
    "API_READ_TOKEN": "planted-read-token",
    "NOTIFY_WEBHOOK_URL": "http://127.0.0.1:9/hooks/planted-hook-token",
    "MLFLOW_TRACKING_PASSWORD": AWKWARD.format("mlflow"),
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "AWS_SESSION_TOKEN": "planted-aws-session",
    "GITHUB_TOKEN": "planted-github-token",
    "MY_PASSWORD": "planted-password-of-something-else",
}
"""and the key pair of the object store, which is in use"""


def encoded(name: str) -> str:
    return quote(AWKWARD.format(name), safe="")


AWAY = {
    "DATABASE_URL": f"postgresql://ada:{encoded('database')}@127.0.0.1:9/loop",
    "MLFLOW_TRACKING_URI": f"http://ada:{encoded('tracking')}@127.0.0.1:9",
    "ZENML_STORE_URL": "http://127.0.0.1:9",
    "ZENML_STORE_USERNAME": "ada",
    "ZENML_STORE_PASSWORD": AWKWARD.format("zenml"),
    "MINIO_ENDPOINT_URL": f"http://ada:{encoded('endpoint')}@127.0.0.1:9",
    "MINIO_ACCESS_KEY": "planted-access-key",
    "MINIO_SECRET_KEY": "planted-secret-key",
    "DVC_REMOTE": f"https://ada:{encoded('remote')}@127.0.0.1:9/dvc",
    "NOTIFY_WEBHOOK_URL": "http://127.0.0.1:9/hooks/planted-hook-token",
    "MLFLOW_TRACKING_PASSWORD": AWKWARD.format("mlflow"),
    "API_TOKEN": "planted-api-token",
    "API_READ_TOKEN": "planted-read-token",
}
"""services that are not there, and how one would get into them"""
IN_URLS = ("database", "tracking", "endpoint", "remote")


def forms(secret: str) -> set[bytes]:
    """A secret as it may be written: plain, in a URL, in JSON, in a header."""
    texts = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    pairs = {base64.b64encode(f"{user}:{secret}".encode()) for user in ("ada", "openmlops", "")}
    return {text.encode() for text in texts} | pairs | {base64.b64encode(secret.encode()).rstrip(b"=")}


class Searched:
    """What commands said, and a folder that they worked in."""

    def __init__(self, folder: Folder, secrets: list[str]) -> None:
        self.folder, self.secrets = folder, secrets
        self.said: dict[str, bytes] = {}

    def run(self, *words: str, code: int | None = None) -> str:
        """One command; all that it said is kept."""
        done = self.folder.run(*words)
        assert code is None or done.returncode == code, done.stderr
        self.said[" ".join(words)] = (done.stdout + done.stderr).encode()
        return done.stdout + done.stderr

    def serve(self, until: str) -> None:
        """The server until it has said `until`; all that it said is kept."""
        said = self.folder.path / "serve.log"
        command = [str(PROGRAM), "serve", "--port", "0"]
        with process(command, said, lambda: until in said.read_text(), self.folder.environment, folder=self.folder.path):
            pass
        self.said["serve"] = said.read_bytes()

    def leaks(self) -> list[tuple[str, str]]:
        """Every place that holds a secret, with the secret."""
        wanted = {secret: forms(secret) for secret in self.secrets}
        places = [*self.said.items(), *self._files()]
        return [
            (place, secret) for place, content in places for secret, found in wanted.items() if any(f in content for f in found)
        ]

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self.folder.path.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(self.folder.path)), path.read_bytes()


def planted(path: Path, environment: dict[str, str], secrets: list[str]) -> Searched:
    folder = Folder(path)
    (path / "tmp").mkdir()
    folder.environment |= {**environment, "TMPDIR": str(path / "tmp")}  # crash files are looked into as well
    return Searched(folder, secrets)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, s3_server) -> Searched:
    """Data, training, monitoring and a server, with secrets in the environment and an object store that needs some of them."""
    secret_key = s3_server.secret_key.get_secret_value()
    store = {"MINIO_ENDPOINT_URL": s3_server.endpoint, "MINIO_SECRET_KEY": secret_key}
    store["MINIO_ACCESS_KEY"] = s3_server.access_key.get_secret_value()
    found = planted(tmp_path_factory.mktemp("lived"), {**EMBEDDED, **store}, [*EMBEDDED.values(), secret_key])
    found.run("settings", code=0)
    found.run("settings", "--json", code=0)
    found.run("data", "sample", "cifar10", code=0)
    small = [word for text in ("steps=100", "channels=16-32", "batch_size=100") for word in ("--set", text)]
    found.run("train", *small, code=0)
    found.run("models", code=0)
    found.run("history", "cifar10_cnn", code=0)
    found.run("cycle", "--source", "test-set", "--mode", "suggest", code=0)
    found.run("history", "nobody", code=1)
    found.run("train", "--set", "password=planted-password-of-something-else", code=1)
    serve(found)
    return found


def serve(found: Searched) -> None:
    """A server, requests to it that are taken and that are refused, and its log."""
    port = free_port()
    log = found.folder.path / "server.log"
    with log.open("wb") as output:
        command = [PROGRAM, "serve", "--port", str(port)]
        environment = found.folder.environment
        process = subprocess.Popen(command, cwd=found.folder.path, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_for(client, process, log)
            found.said["answers"] = b"\n".join(answer.content + str(answer.headers).encode() for answer in asked(client))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def wait_for(client: httpx.Client, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


def asked(client: httpx.Client) -> Iterator[httpx.Response]:
    token, reading = ({"Authorization": f"Bearer {EMBEDDED[name]}"} for name in ("API_TOKEN", "API_READ_TOKEN"))
    image = png(images(1)[0])
    predicted = client.post("/predict", content=image, headers=token)
    assert predicted.status_code == 200, predicted.text
    yield predicted
    yield client.post("/feedback", json={"prediction_id": predicted.json()["prediction_id"], "label": 1}, headers=token)
    yield client.post("/trigger", json={"reason": "look"}, headers=token)
    for headers in ({}, token, reading, {"Authorization": "Bearer wrong"}):
        for path in ("/health/ready", "/metrics", "/docs", "/openapi.json", "/v2", "/v2/models/cifar10_cnn", "/nothing"):
            yield client.get(path, headers=headers)
        yield client.post("/predict", content=b"no image", headers=headers)
        yield client.post("/v2/models/cifar10_cnn/infer", content=np.zeros(9).tobytes(), headers=headers)


def test_what_is_looked_for_is_found_where_it_is(lived: Searched) -> None:
    """The search itself: what is no secret is in the same places."""
    seen = Searched(lived.folder, ["cifar10_cnn", "steps"])
    seen.said = lived.said
    places = {place for place, _ in seen.leaks()}
    assert {".openmlops/openmlops.db", ".openmlops/mlflow.db", "server.log", "answers"} <= places
    assert any(place.startswith(".openmlops/zenml") for place in places)
    assert any(place.startswith(".openmlops/mlflow-artifacts") for place in places)


def test_the_secrets_of_a_whole_loop_are_in_no_output_no_answer_and_no_file(lived: Searched) -> None:
    assert len(lived.secrets) >= 9
    assert lived.leaks() == []


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Commands that need services which are not there."""
    secrets = [value for name, value in AWAY.items() if "PASSWORD" in name or "KEY" in name or "TOKEN" in name]
    secrets += [AWKWARD.format(name) for name in IN_URLS] + ["planted-hook-token"]
    found = planted(tmp_path_factory.mktemp("away"), AWAY, secrets)
    found.run("settings", code=0)
    found.run("settings", "--json", code=0)
    for words in (
        ("models",),
        ("history", "m"),
        ("decisions",),
        ("data", "sample"),
        ("data", "status"),
        ("cycle",),
    ):
        found.run(*words)
    found.serve(until="cannot be used (")
    found.run("train", "--set", "steps=1", code=1)
    return found


ZENML_KEEPS = "zenml-*/*.yaml"
"""ZenML remembers how it gets into its server, in its own configuration, which nobody else may read"""


def test_commands_that_fail_tell_no_secret(away: Searched) -> None:
    kept = {str(path.relative_to(away.folder.path)) for path in (away.folder.path / ".openmlops").glob(ZENML_KEEPS)}
    assert len(away.secrets) >= 10
    assert [leak for leak in away.leaks() if leak[0] not in kept] == []


def test_they_fail_in_one_line(away: Searched) -> None:
    for words in ("models", "history m", "decisions", "train --set steps=1"):
        lines = [line for line in away.said[words].decode().splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, away.said[words].decode()
        assert "Traceback" not in away.said[words].decode()


def test_what_zenml_keeps_nobody_else_may_read(away: Searched) -> None:
    for path in (away.folder.path / ".openmlops").glob(ZENML_KEEPS):
        assert path.parent.stat().st_mode & 0o077 == 0


def test_a_crash_file_holds_no_password_and_only_its_owner_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.getsignal(signal.SIGTERM)

    def broken() -> None:
        raise RuntimeError(f"could not reach {AWAY['DATABASE_URL']} nor {AWAY['MLFLOW_TRACKING_URI']}")

    assert exit_code(broken) == 1
    signal.signal(signal.SIGTERM, before)
    (file,) = tmp_path.iterdir()
    text = file.read_text() + capsys.readouterr().err
    assert "could not reach postgresql://ada:***@127.0.0.1:9/loop" in text
    assert not [name for name in IN_URLS for form in forms(AWKWARD.format(name)) if form in text.encode()]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://ada:pw@host/x", "http://ada:***@host/x"),
        ("http://ada:p@w:/@host/x and more", "http://ada:***@host/x and more"),
        ("https://token@host", "https://***@host"),
        ("postgresql+psycopg2://:pw@/loop", "postgresql+psycopg2://:***@/loop"),
        ("http://host:8000/x", "http://host:8000/x"),
        ("write to ada@example.org", "write to ada@example.org"),
        ("sqlite:////home/ada@work/x.db", "sqlite:////home/ada@work/x.db"),
    ],
)
def test_the_password_of_a_url_is_told_by_no_error(text: str, told: str) -> None:
    assert hide_passwords(text) == told
    assert str(OpenMLOpsError(f"Cannot reach {text}", f"Correct {text}")) == f"Cannot reach {told}. Correct {told}."


def test_an_error_is_one_printable_line_that_ends() -> None:
    told = one_line("a\nb\x1b[2J\x00\udc80\u202e" + "x" * 5000)
    assert told.isprintable()
    assert told.startswith(r"a b\x1b[2J\x00\udc80\u202ex")
    assert len(told) < 2010


def test_no_setting_whose_name_sounds_secret_is_shown() -> None:
    words, files = ("password", "token", "key", "secret"), {"ledger_signing_key"}  # which say where a key is
    named = [name for name in Settings.model_fields if any(word in name for word in words) and name not in files]
    shown = Settings.load({name.upper(): "planted" for name in named}, Path("/nowhere")).masked()
    assert {shown[name.upper()] for name in named} == {"********"}


def test_a_secret_is_no_field_of_a_training() -> None:
    from openmlops.cli.options import assignments

    for name in ("password", "api-key", "my_secret", "access_token"):
        with pytest.raises(OpenMLOpsError, match="looks like a secret") as raised:
            assignments([f"{name}=planted"])
        assert "planted" not in str(raised.value)
    assert assignments(["lr=0.1"]) == {"lr": "0.1"}


def test_values_do_not_print_their_secrets() -> None:
    from openmlops.serving.config import ServingConfig

    config = ServingConfig(
        model="m",
        use_case="cifar10",
        home=Path("x"),
        database_url=SecretStr(AWAY["DATABASE_URL"]),
        tracking_uri=SecretStr(AWAY["MLFLOW_TRACKING_URI"]),
        api_token=SecretStr("planted-api-token"),
        api_read_token=SecretStr("planted-read-token"),
    )
    assert isinstance(config, Value)
    told = (repr(config) + str(config) + config.model_dump_json()).encode()
    assert not [secret for secret in ("planted", *map(AWKWARD.format, IN_URLS)) for form in forms(secret) if form in told]
