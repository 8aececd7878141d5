"""Served predictions per second with logging on, against `mlflow models serve`, LitServe and the bare ONNX Runtime loop.

One model version, trained on the shipped sample for a few steps, registered and promoted; all rivals answer from its files, one
after the other in turns (so that a noisy machine hits all), with 16 connections from a client process on the same machine.
PNG bodies, but for MLflow, which takes JSON. Rivals do not log. LitServe is left out where it is not installed. Markdown.

    python benchmarks/serving.py [--rounds 3] [--seconds 8]
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
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from openmlops.settings import Settings, move_into

HERE = Path(__file__).parent
CONNECTIONS = 16
SERVE = """
import json, sys
from openmlops.serving.config import ServingConfig
from openmlops.serving.run import serve

serve(ServingConfig(**json.loads(sys.argv[1])))
"""


def main(rounds: int, seconds: float) -> None:
    """Make the version, then measure everybody `rounds` times."""
    version = make_version()
    png, jsons = Path("png.npz"), Path("json.npz")
    images = np.random.default_rng(0).integers(0, 256, (512, 32, 32, 3), dtype=np.uint8)
    np.savez(png, *[np.frombuffer(png_of(image), np.uint8) for image in images])
    np.savez(jsons, *[np.frombuffer(json.dumps({"inputs": image[None].tolist()}).encode(), np.uint8) for image in images])
    with ours(version) as port, mlflow(version) as mlflow_port, litserve(version) as lit_port:
        ways: dict[str, Callable[[], float]] = {
            "openmlops serve, logged": lambda: load(port, "/predict", "image/png", png, seconds)["rate"],
            "mlflow models serve, JSON": lambda: load(mlflow_port, "/invocations", "application/json", jsons, seconds)["rate"],
            "bare loop: decode and run, one image at a time": lambda: bare(version, images, seconds),
        }
        if lit_port:
            ways["LitServe, batching"] = lambda: load(lit_port, "/predict", "image/png", png, seconds)["rate"]
        measured = {name: statistics.median(rates) for name, rates in in_turns(ways, rounds).items()}
        rate = measured["openmlops serve, logged"]
        half = load(port, "/predict", "image/png", png, 2 * seconds, rate / 2)
        bomb_ms = refuse_bomb(port)
        resident = resident_megabytes(port)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, n = {rounds} rounds of {seconds:g} s, medians\n"
    )
    print("| server | predictions a second | ours is |\n|---|---|---|")
    for name, other in measured.items():
        print(f"| {name} | {other:.0f} | {rate / other:.2f} times |")
    print(f"\nAt half load ({rate / 2:.0f} a second, n = {half['n']}): p50 {half['p50']:.1f} ms, p99 {half['p99']:.1f} ms.")
    print(f"Resident: {resident:.0f} MB. A PNG of 100 megapixels is refused in {bomb_ms:.1f} ms.")


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each way once a round; the first, unmeasured round warms everybody up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, measure in ways.items():
            if rate := measure() if turn else measure() * 0:
                rates[name].append(rate)
    return rates


def make_version() -> dict[str, str]:
    """Train briefly on the sample, register, promote: the folder of the version's files and the settings of its server."""
    from openmlops.operations import data, models, promotion, training
    from openmlops.operations.workspace import Workspace

    workspace = Workspace.open()
    data.make_sample(workspace)
    config = workspace.use_case.config(steps=3, channels="16-64-128")
    dataset = data.ingest(workspace)
    splits = data.split(workspace, dataset, config.seed)
    trained = training.train(workspace, splits, training.preprocess(workspace, splits), config.model_dump())
    evaluation = models.evaluate(workspace, trained)
    model = models.register(workspace, models.export(workspace, trained, evaluation), trained, evaluation)
    promotion.promote(workspace, f"{model.name}/{model.version}", "benchmark", splits)
    return {"model": model.name, "folder": str(workspace.registry.fetch(model)), "home": str(workspace.home)}


@contextmanager
def ours(version: dict[str, str]) -> Iterator[int]:
    """Our server, as `openmlops serve` starts it."""
    settings, port = Settings.load(), free_port()
    urls = {"database_url": settings.database, "tracking_uri": settings.tracking_uri}
    config = {"model": version["model"], "use_case": "cifar10", "home": version["home"], "port": port, **urls}
    with started([sys.executable, "-c", SERVE, json.dumps(config)], port, "/health/ready"):
        yield port


@contextmanager
def mlflow(version: dict[str, str]) -> Iterator[int]:
    """`mlflow models serve` on the same folder, which is an MLflow model, with its default of one worker."""
    port = free_port()
    command = ["models", "serve", "--env-manager", "local", "--model-uri", version["folder"], "--port", str(port)]
    with started([sys.executable, "-m", "mlflow", *command], port, "/ping"):
        yield port


@contextmanager
def litserve(version: dict[str, str]) -> Iterator[int]:
    """LitServe on the same ONNX file; port 0 where it is not installed."""
    if importlib.util.find_spec("litserve") is None:
        yield 0
        return
    port = free_port()
    command = [sys.executable, str(HERE / "serving_litserve.py"), f"{version['folder']}/model.onnx", str(port)]
    with started(command, port, "/health"):
        yield port


def bare(version: dict[str, str], images: np.ndarray, seconds: float) -> float:
    """Predictions a second of one thread that decodes and runs, nothing else."""
    from openmlops.adapters.onnx_model import OnnxModel
    from openmlops.core.decoding import decode_image

    model = OnnxModel(Path(version["folder"]) / "model.onnx", threads=1)
    bodies = [png_of(image) for image in images]
    start, n = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        model.run(decode_image(bodies[n % len(bodies)], 32, 32)[None])
        n += 1
    return n / (time.perf_counter() - start)


def load(port: int, path: str, content_type: str, bodies: Path, seconds: float, rate: float = 0) -> dict[str, float]:
    """What the clients measured; without a rate, as fast as they are answered."""
    command = [sys.executable, HERE / "serving_clients.py", f"http://127.0.0.1:{port}{path}", content_type, bodies]
    numbers = map(str, (CONNECTIONS, seconds, rate))
    return json.loads(subprocess.run([*command, *numbers], check=True, stdout=subprocess.PIPE).stdout)


def refuse_bomb(port: int) -> float:
    """Milliseconds until a PNG of 10,000 x 10,000 pixels is refused."""
    bomb = png_of(np.zeros((10_000, 10_000, 3), np.uint8))
    start = time.perf_counter()
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/predict", bomb)
    except urllib.error.HTTPError as refusal:
        if refusal.code != 422:
            raise
        return 1000 * (time.perf_counter() - start)
    raise AssertionError("the bomb was answered")


def resident_megabytes(port: int) -> float:
    """Resident memory of the server's process."""
    import psutil

    listening = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
    return psutil.Process(listening[0]).memory_info().rss / 2**20


@contextmanager
def started(command: list[str], port: int, health: str) -> Iterator[None]:
    """A server in a process of its own, once it says that it is well."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with open(f"server-{port}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}{health}", process)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
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
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        move_into(Path(scratch))
        main(chosen.rounds, chosen.seconds)
