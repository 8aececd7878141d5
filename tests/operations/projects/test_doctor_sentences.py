"""The doctor's lines about this machine, and about a prediction server that really runs; other servers are in `on_servers`."""

import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from openmlops.cli import app
from openmlops.settings import Settings
from ports import free_port
from user_folder import PROGRAM, Folder


def test_a_server_without_a_champion_is_a_warning_of_whole_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    folder, port = Folder(tmp_path), str(free_port())
    url = f"http://127.0.0.1:{port}"
    words = (PROGRAM, "serve", "--port", port)
    served = subprocess.Popen(words, cwd=folder.path, env=folder.environment, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"{url}/health/live")
        line = CliRunner().invoke(app, ["doctor", "--server", url]).stdout.splitlines()[-1]
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(120)
    remedy = "Check its log; no version of cifar10_cnn is champion yet. Train one, or promote one."
    assert line.split(maxsplit=2) == ["warning", "server", f"{url} is not serving predictions. {remedy}"]


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} did not answer")
