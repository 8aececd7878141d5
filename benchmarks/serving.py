"""Served predictions per second with logging on, against `mlflow models serve`, LitServe and the bare ONNX Runtime loop.

One model version, trained on the shipped sample for a few steps, registered and promoted; all answer from its files, in turns,
so that a noisy machine hits all; whoever is not measured is stopped. 32 connections from a client process on the same machine.
PNG bodies, but for MLflow, which takes JSON. Rivals do not log. LitServe is left out where it is not installed. CPU time is
that of all processes of a server, and depends little on what else runs. Prints Markdown.

    python benchmarks/serving.py [--rounds 3] [--seconds 8] [--connections 32]
"""

import argparse
import importlib.util
import io
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from openmlops.settings import Settings, move_into

HERE = Path(__file__).parent
CONNECTIONS = 32
SERVE = """
import json, sys
from openmlops.serving.config import ServingConfig
from openmlops.serving.run import serve

serve(ServingConfig(**json.loads(sys.argv[1])))
"""


def main(rounds: int, seconds: float, connections: int) -> None:
    """Make the version, then measure everybody `rounds` times."""
    ask = partial(load, connections=connections)
    version = make_version()
    png, jsons = Path("png.npz"), Path("json.npz")
    images = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype=np.uint8)
    np.savez(png, *[np.frombuffer(png_of(image), np.uint8) for image in images])
    np.savez(jsons, *[np.frombuffer(json.dumps({"inputs": image[None].tolist()}).encode(), np.uint8) for image in images])
    with ours(version) as own, mlflow(version) as mlflows, litserve(version) as lit:
        ways = {
            "openmlops serve, logged": lambda: ask(own, "/predict", "image/png", png, seconds),
            "mlflow models serve, JSON": lambda: ask(mlflows, "/invocations", "application/json", jsons, seconds),
            "bare loop: decode and run, one image at a time": lambda: bare(version, images, seconds),
        }
        if lit:
            ways["LitServe, batching"] = lambda: ask(lit, "/predict", "image/png", png, seconds)
        measured = in_turns(ways, rounds)
        rate = measured["openmlops serve, logged"]["rate"]
        half = ask(own, "/predict", "image/png", png, 2 * seconds, rate / 2)
        bomb_ms = refuse_bomb(own)
        parent = psutil.Process(own.process.pid)  # shares what it has imported with the process that serves
        resident = sum(each.memory_full_info().pss for each in (parent, *parent.children())) / 2**20
    print(f"{os.cpu_count()} cores, {platform.machine()}, n = {rounds} rounds of {seconds:g} s, medians\n")
    print("| server | predictions a second | ours is | CPU ms a prediction |\n|---|---|---|---|")
    for name, found in measured.items():
        print(f"| {name} | {found['rate']:.0f} | {rate / found['rate']:.2f} times | {found['cpu_ms']:.2f} |")
    print(f"\nAt half load ({rate / 2:.0f} a second, n = {half['n']:.0f}): p50 {half['p50']:.1f} ms, p99 {half['p99']:.1f} ms.")
    print(f"Resident: {resident:.0f} MB. A PNG of 100 megapixels is refused in {bomb_ms:.1f} ms.")


def in_turns(ways: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, each way once a round; one unmeasured round before warms everybody up."""
    found = [{name: measure() for name, measure in ways.items()} for _ in range(rounds + 1)][1:]
    return {name: {what: statistics.median(one[name][what] for one in found) for what in ("rate", "cpu_ms")} for name in ways}


def make_version() -> dict[str, str]:
    """Train briefly on the sample, register, promote: the folder of the version's files and the settings of its server."""
    from openmlops.operations.data import datasets
    from openmlops.operations.release import exporting, promotion, registration, scoring
    from openmlops.operations.training import train
    from openmlops.operations.workspace import Workspace

    workspace = Workspace.open()
    datasets.make_sample(workspace)
    config = workspace.use_case.config(steps=3, channels="16-64-128")
    dataset = datasets.ingest(workspace)
    splits = datasets.split(workspace, dataset, config.seed)
    trained = train.train(workspace, splits, train.preprocess(workspace, splits), config.model_dump())
    evaluation = scoring.evaluate(workspace, trained)
    model = registration.register(workspace, exporting.export(workspace, trained, evaluation), trained, evaluation)
    promotion.promote(workspace, f"{model.name}/{model.version}", "benchmark", splits)
    return {"model": model.name, "folder": str(workspace.registry.fetch(model)), "home": str(workspace.home)}


@dataclass(frozen=True)
class Server:
    """A server, stopped but while it is measured: LitServe's workers poll, and would slow the others down."""

    process: subprocess.Popen[bytes]
    port: int

    @contextmanager
    def awake(self) -> Iterator[str]:
        """Its address, while it may run."""
        os.killpg(self.process.pid, signal.SIGCONT)
        yield f"http://127.0.0.1:{self.port}"
        os.killpg(self.process.pid, signal.SIGSTOP)

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        parent = psutil.Process(self.process.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (parent, *parent.children(recursive=True)))


@contextmanager
def ours(version: dict[str, str]) -> Iterator[Server]:
    """Our server, as `openmlops serve` starts it."""
    settings, port = Settings.load(), free_port()
    urls = {"database_url": settings.database, "tracking_uri": settings.tracking_uri}
    config = {"model": version["model"], "use_case": "cifar10", "home": version["home"], "port": port, **urls}
    with started([sys.executable, "-c", SERVE, json.dumps(config)], port, "/health/ready") as server:
        yield server


@contextmanager
def mlflow(version: dict[str, str]) -> Iterator[Server]:
    """`mlflow models serve` on the same folder, which is an MLflow model, with its default of one worker."""
    port = free_port()
    command = ["models", "serve", "--env-manager", "local", "--model-uri", version["folder"], "--port", str(port)]
    with started([sys.executable, "-m", "mlflow", *command], port, "/ping") as server:
        yield server


@contextmanager
def litserve(version: dict[str, str]) -> Iterator[Server | None]:
    """LitServe on the same ONNX file; None where it is not installed."""
    if importlib.util.find_spec("litserve") is None:
        yield None
        return
    port = free_port()
    command = [sys.executable, str(HERE / "serving_litserve.py"), f"{version['folder']}/model.onnx", str(port)]
    with started(command, port, "/health") as server:
        yield server


def bare(version: dict[str, str], images: np.ndarray, seconds: float) -> dict[str, float]:
    """One thread that decodes and runs, nothing else."""
    from openmlops.adapters.onnx_model import OnnxModel
    from openmlops.core.classification.task import CLASSIFICATION
    from openmlops.core.images.decoding import decode_image

    model = OnnxModel(Path(version["folder"]) / "model.onnx", CLASSIFICATION.outputs, threads=1)
    bodies = [png_of(image) for image in images]
    start, cpu, n = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < start + seconds:
        model.run(decode_image(bodies[n % len(bodies)], 32, 32)[None])
        n += 1
    return {"rate": n / (time.perf_counter() - start), "cpu_ms": 1000 * (time.process_time() - cpu) / n}


def load(
    server: Server, path: str, content_type: str, bodies: Path, seconds: float, rate: float = 0, *, connections: int
) -> dict[str, float]:
    """What the clients measured; without a rate, as fast as they are answered."""
    numbers = map(str, (connections, seconds, rate))
    with server.awake() as url:
        before = server.cpu_seconds()
        command = [sys.executable, HERE / "serving_clients.py", f"{url}{path}", content_type, bodies, *numbers]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return {**found, "cpu_ms": 1000 * (server.cpu_seconds() - before) / found["n"]}


def refuse_bomb(server: Server) -> float:
    """Milliseconds until a PNG of 10,000 x 10,000 pixels is refused."""
    bomb = png_of(np.zeros((10_000, 10_000, 3), np.uint8))
    with server.awake() as url:
        start = time.perf_counter()
        try:
            urllib.request.urlopen(f"{url}/predict", bomb)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 422:
                raise
        return 1000 * (time.perf_counter() - start)


@contextmanager
def started(command: list[str], port: int, health: str) -> Iterator[Server]:
    """A server in a process group of its own, stopped once it has said that it is well."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with open(f"server-{port}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}{health}", process)
            os.killpg(process.pid, signal.SIGSTOP)
            yield Server(process, port)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(url)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def png_of(image: np.ndarray) -> bytes:
    """PNG bytes of uint8 (h, w, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        move_into(Path(scratch))
        main(chosen.rounds, chosen.seconds, chosen.connections)
