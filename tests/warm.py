"""Commands in processes forked from one that has imported the libraries: a user's commands, without seconds of imports.

What a command imports, and what is left behind when Python begins and ends, is claimed with processes that begin so.
"""

import atexit
import gc
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

MODULES = (
    "dvc.repo",
    "evidently.metrics",
    "matplotlib.backends.backend_agg",
    "mlflow.onnx",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnxruntime",
    "openmlops.adapters.data_versions",
    "openmlops.adapters.onnx_model",
    "openmlops.adapters.registry",
    "openmlops.adapters.tracking",
    "openmlops.cli.monitoring",
    "openmlops.cli.training",
    "openmlops.learning.export",
    "openmlops.operations.release.exporting",
    "openmlops.pipelines.monitoring_pipeline",
    "openmlops.pipelines.training_pipeline",
    "openmlops.usecases.cifar10.model",
    "openmlops.usecases.person",
    "torch.onnx",
    "zenml.orchestrators.step_launcher",
    "zenml.orchestrators.step_runner",
    "zenml.zen_stores.rest_zen_store",
    "zenml.zen_stores.sql_zen_store",
)
POLL_SECONDS = 0.01


class _Warm:
    """The process, and the requests that it has not answered yet."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.waiting: dict[str, Future[int]] = {}
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self.end)

    def ask(self, request: dict[str, Any]) -> Future[int]:
        answer: Future[int] = Future()
        assert self.process.stdin is not None
        with self.lock:
            name = str(len(self.waiting))
            self.waiting[name] = answer
            print(json.dumps(request | {"name": name}), file=self.process.stdin, flush=True)
        return answer

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, code = line.split()
            self.waiting[name].set_result(int(code))

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


@cache
def _warm() -> _Warm:
    return _Warm()


def run(
    words: tuple[str, ...], program: Path, folder: Path, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """`openmlops WORDS` in `folder`, to its end."""
    number = threading.get_ident()
    said = [folder.parent / f".{folder.name}-{number}.{stream}" for stream in ("out", "err")]
    request = {
        "words": [str(program), *words],
        "folder": str(folder),
        "environment": dict(environment),
        "streams": [str(path) for path in said],
    }
    code = _warm().ask(request).result(seconds)
    out, err = (path.read_text() for path in said)
    for path in said:
        path.unlink()
    return subprocess.CompletedProcess([str(program), *words], code, out, err)


def _serve() -> None:
    """Fork a process for each line of standard input; print its name and exit code when it has ended."""
    gc.disable()
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    running: dict[int, str] = {}
    open_input = True
    buffered = b""
    while open_input or running:
        if open_input and select.select([0], [], [], POLL_SECONDS if running else None)[0]:
            chunk = os.read(0, 1 << 16)
            open_input = bool(chunk)
            *lines, buffered = (buffered + chunk).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if (pid := os.fork()) == 0:
                    _command(request)
                running[pid] = request["name"]
        while running and (found := os.waitpid(-1, 0 if not open_input else os.WNOHANG))[0]:
            print(running.pop(found[0]), os.waitstatus_to_exitcode(found[1]), flush=True)


def _command(request: dict[str, Any]) -> None:
    """Become the command; does not return."""
    code: object = 1
    try:
        files = [os.open(os.devnull, os.O_RDONLY)]
        files += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in request["streams"]]
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.setsid()
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv, tempfile.tempdir = request["words"], None
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        try:
            importlib.import_module("openmlops.cli").main()
        except SystemExit as end:
            code = end.code
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 (the process ends here)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    sys.path.pop(0)
    from openmlops.settings import quiet_libraries

    quiet_libraries()
    _serve()
