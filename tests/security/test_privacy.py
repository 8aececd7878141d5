"""Nothing is reported to anyone: no file in the user's home folder, no look-up, no call beyond loopback."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import every_command
from openmlops import telemetry
from openmlops.learning.pretrained import DEFAULT
from ports import free_port
from processes import listens
from shapes import folders
from small_people import draw_people
from traced import PROGRAM, Trace, Tracer

WATCH = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in {{"onnxruntime", "mlflow", "zenml", "dvc", "evidently", "ultralytics", "huggingface_hub"}}:
            seen.add(package)
            assert all(os.environ.get(variable) for variable in {sorted(telemetry.OFF)!r}), name
seen = set()
sys.meta_path.insert(0, Watch())
"""


API = """
from openmlops.operations.workspace import Workspace
from openmlops.pipelines.training_entry import run
from openmlops.operations.monitoring.frames import ledger
workspace = Workspace.open()
assert len(ledger(workspace))
run(workspace, workspace.use_case.config(epochs=1, seed=3))
"""
"""a notebook of a user's"""


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("adapters.onnx_model", "onnxruntime"),
        pytest.param("learning.backbone", "huggingface_hub", marks=pytest.mark.slow),
        pytest.param("adapters.registry", "mlflow", marks=pytest.mark.slow),
        pytest.param("usecases.yolo_folder.yolo", "ultralytics", marks=pytest.mark.slow),
        pytest.param("pipelines.monitoring_pipeline", "zenml", marks=pytest.mark.slow),
    ],
)
def test_telemetry_is_off_before_a_library_is_imported_which_leaves_nothing(module: str, library: str, tmp_path: Path) -> None:
    """Whatever part of the package comes first, in a process with none of the variables: pytest's own stop telemetry too."""
    code = f"{WATCH}import openmlops.{module}\nassert {library!r} in seen"
    kept = {"ZENML_CONFIG_PATH": str(tmp_path / "zenml"), "PYTHONDONTWRITEBYTECODE": "1"}
    kept["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "torchinductor")  # commands set it: settings.py
    (tmp_path / "home").mkdir()
    environment = {"PATH": os.defpath, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "home"), **kept}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
    assert [path.name for path in (tmp_path / "home").rglob("*")] == []


def test_a_users_own_value_is_kept_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "")
    telemetry.switch_off()
    assert (os.environ["ORT_DISABLE_TELEMETRY"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("0", "true")


def test_the_trace_sees_what_it_is_for(tmp_path: Path) -> None:
    """A look-up, a call, and files in the home folder and elsewhere."""
    (tmp_path / "project").mkdir()
    code = f"""
import pathlib, socket
pathlib.Path.home().joinpath("id").write_text("me")
pathlib.Path({str(tmp_path / "elsewhere")!r}).write_text("me")
pathlib.Path("mine").write_text("me")
for address in ("127.0.0.1", 53), ("192.0.2.1", 443), ("::1", 80):
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect_ex(address)
"""
    trace = Tracer(tmp_path / "traces").run([sys.executable, "-c", code], tmp_path / "project")
    assert trace.code == 0, trace.output
    assert {Path(path).name for path in trace.written} == {"id", "elsewhere"}
    assert (trace.left, trace.called) == ({"home/id"}, {"127.0.0.1:53", "192.0.2.1:443"})


class Tried:
    """The commands that were given, and what they left or called."""

    def __init__(self, place: Path) -> None:
        self.tracer = Tracer(place / "traces")
        self.commands: set[str] = set()
        self.found: dict[str, Trace] = {}

    def give(self, folder: Path, *words: str, code: int | None = 0) -> Trace:
        trace = self.run(folder, str(PROGRAM), *words, code=code)
        self.commands.add(" ".join(words))
        return trace

    def run(self, folder: Path, *program: str, code: int | None = 0) -> Trace:
        """`code` None: whatever it ends with."""
        trace = self.tracer.run(list(program), folder)
        assert code is None or trace.code == code, trace.output[-2000:]
        return self._note(trace, program)

    def start(self, folder: Path, *words: str, seconds: float = 0, port: int = 0, meanwhile: tuple[str, ...] = ()) -> None:
        with self.tracer.running([str(PROGRAM), *words], folder) as (trace, process):
            deadline = time.monotonic() + 60
            while port and not listens(port)():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
            if meanwhile:
                self.give(folder, *meanwhile)
            time.sleep(seconds)
        assert trace.code in (0, 130), trace.output[-2000:]
        self.commands.add(" ".join(words))
        self._note(trace, words)

    def _note(self, trace: Trace, words: tuple[str, ...]) -> Trace:
        if not trace.is_clean:
            self.found[" ".join(words)] = trace
        return trace


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_command_leaves_a_file_outside_its_project_or_calls_a_host(tmp_path: Path) -> None:
    """Each command of the program as a user with an empty home folder gives it, servers for some seconds each."""
    tried = Tried(tmp_path)
    photos = folders(tmp_path / "photos", 40)
    more = folders(tmp_path / "more", 10, seed=9)
    tried.give(tmp_path, "init", "shapes", "--kind", "classification", "--data", str(photos))
    project = tmp_path / "shapes"
    for words in (("data", "status"), ("data", "check"), ("data", "pull"), ("train", "--epochs", "2")):
        tried.give(project, *words)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    traffic = ("traffic", "--seconds", "2s", "--labels", "--images", str(more), "--url", url)
    tried.start(project, "serve", "--port", str(port), seconds=20, port=port, meanwhile=traffic)
    tried.start(project, "console", "--port", str(port), seconds=5, port=port)
    tried.start(project, "watch", "--every", "60s", seconds=40)
    for words in (
        ("evaluate", "shapes@champion"),
        ("models",),
        ("history", "shapes"),
        ("settings",),
        ("doctor",),
        ("prune", "--dry-run"),
        ("prune",),
        ("monitor", "--source", "test-set"),
        ("cycle", "--mode", "suggest"),
        ("decisions",),
        ("verify", "shapes/1"),
        ("ledger", "check"),
        ("ledger", "export", "--to", "ledger.jsonl"),
        ("ledger", "verify", "ledger.jsonl"),
        ("ledger", "key", "key.pem"),
        ("backup", "project.tar"),
        ("restore", "project.tar"),
        ("stack", "register"),
        ("stack", "show"),
        ("stack", "check"),
    ):
        tried.give(project, *words)
    for words in (("promote", "shapes/1"), ("rollback", "shapes", "--reason", "a test")):  # there is one version
        tried.give(project, *words, code=1)
    decided = json.loads(tried.give(project, "decisions", "--json").output)["decisions"]
    tried.give(project, "why", decided[0]["id"])
    tried.give(project, "train", "--backbone", DEFAULT, "--size", "64")
    tried.give(project, "search", "--trials", "1", "--set", "epochs=1")
    tried.give(project, "ledger", "restore", code=None)  # as many rows as are there, or none
    tried.give(project, "stack", "grant", "nobody", code=1)  # a file knows no roles
    tried.give(project, "selftest", code=1)  # which asks what to test
    tried.run(project, sys.executable, "-c", API)
    tried.run(project, sys.executable, "-m", "openmlops", "models")
    people = tmp_path / "people"
    people.mkdir()
    tried.give(people, "data", "add", str(draw_people(tmp_path / "drawn" / "person")), "person")
    grid = ("--use-case", "person", "--epochs", "1", "--imgsz", "64", "--set", "pretrained=none", "--set", "batch_size=8")
    tried.give(people, "grid", *grid)
    tried.give(people, "data", "tiny-person", str(tmp_path / "nowhere"), code=1)
    tried.give(people, "data", "fetch", "--url", url, code=1)
    tried.give(people, "data", "sample", "cifar10")
    tried.start(people, "demo", seconds=60)
    missing = [
        " ".join(words) for words, _ in every_command() if not any(one.startswith(" ".join(words)) for one in tried.commands)
    ]
    assert missing == []
    assert {words: (trace.written, trace.called, trace.left) for words, trace in tried.found.items()} == {}
