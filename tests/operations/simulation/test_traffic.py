"""Traffic is sent as a client sends it: counted, paced, never repeated."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openmlops.cli import app
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.images.boxes import objects
from openmlops.core.images.decoding import png
from openmlops.errors import DataError, ServiceUnavailable, SettingsError
from openmlops.images.lazy import LazyImages
from openmlops.operations.simulation import traffic
from openmlops.operations.simulation.traffic import Stream, _renumbered, parse_corruption, send
from openmlops.usecases.cifar10.data import decode
from shapes import NAMES, folders

USE_CASE = f"USE_CASE = image_folder('forms', {NAMES}, 32)"


class Server(ThreadingHTTPServer):
    """Answers every image with its first pixel as the label; fails each request whose first pixel is 9."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        self.feedback: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/feedback":
            self.server.feedback.append(json.loads(body))
            return self._answer(200, {"recorded": True})
        self.server.bodies.append(body)
        label = int(decode(body)[0, 0, 0])
        if label == 9:
            return self._answer(503, {"title": "busy"})
        identity = f"p{len(self.server.bodies)}"
        probabilities = {str(index + 1): float(index == label) for index in range(10)}  # classes called 1 to 10
        told = {"prediction_id": identity, "label": label, "probabilities": probabilities, "model": {"name": "m", "version": 4}}
        return self._answer(200, told)

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def stream(first_pixels: list[int], labels: list[int]) -> Stream:
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = first_pixels
    return Stream(images, np.array(labels), CLASSIFICATION)


def test_right_wrong_and_failed_answers_are_counted(server: Server) -> None:
    report = send(server.url, stream([1, 2, 3, 9], [1, 2, 0, 0]), count=4, rate=500)
    assert (report.sent, report.answered, report.failed) == (4, 3, 1)
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.versions == {4: 3}
    assert "503" in report.first_failure
    assert len(server.bodies) == 4


def test_files_are_read_by_those_who_send_them_and_one_that_is_gone_is_a_failure(server: Server) -> None:
    """Files that wait to be sent are not in memory."""
    readers: set[str] = set()

    def content(row: int) -> bytes:
        readers.add(threading.current_thread().name)
        if row:
            raise DataError("a.png cannot be read", "Restore it")
        return png(np.full((32, 32, 3), 1, np.uint8))

    images = LazyImages.of_contents(content, np.full((2, 2), 32), decode, (32, 32))
    report = send(server.url, Stream(images, np.array([1, 1]), CLASSIFICATION), count=2, rate=500)
    assert (report.sent, report.answered, report.failed) == (2, 1, 1)
    assert "a.png cannot be read" in report.first_failure
    assert all(name.startswith("client") for name in readers)


def test_what_is_sent_is_the_image_to_the_pixel(server: Server) -> None:
    image = np.random.default_rng(0).integers(0, 9, (1, 32, 32, 3), dtype=np.uint8)
    send(server.url, Stream(image, np.array([0]), CLASSIFICATION), count=1, rate=500)
    assert np.array_equal(decode(server.bodies[0]), image[0])


def test_the_label_follows_its_own_prediction_by_the_name_of_the_class(server: Server) -> None:
    report = send(server.url, stream([5, 6], [7, 7]), count=2, rate=500, labels=True)
    assert report.labelled == 2
    assert {found["prediction_id"] for found in server.feedback} == set(report.ids)
    assert {found["label"] for found in server.feedback} == {"8"}


class Clock:
    """Stands still unless somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_rate_is_kept_and_caught_up_with_after_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = Clock(), []
    monkeypatch.setattr(traffic, "time", clock)
    for number in traffic._paced(50, until=1.0, count=None, stop=threading.Event()):
        sent.append(clock.now)
        if number == 9:
            clock.sleep(0.1)
    assert sent == pytest.approx([*np.arange(10) / 50, *[0.28] * 5, *np.arange(15, 50) / 50])


def test_no_server_is_one_clear_line() -> None:
    with pytest.raises(ServiceUnavailable, match=r"No ready server at http://127\.0\.0\.1:9.*openmlops serve"):
        send("http://127.0.0.1:9", stream([1], [1]), count=1)


def test_the_files_of_a_folder_are_accounted_for_before_they_are_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a server that runs, and where none does; with --json on standard output too."""
    (tmp_path / "forms.py").write_text(f"from openmlops.usecases.image_folder import image_folder\n{USE_CASE}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USE_CASE", "forms:USE_CASE")
    own = folders(tmp_path / "own", 40)
    (own / "disc" / "0000.png").write_bytes(b"no image")
    words = ["traffic", "--images", str(own), "--seconds", "0.1s", "--rate", "50", "--url"]
    for url, code in ((server.url, 0), ("http://127.0.0.1:9", 1)):
        done = CliRunner().invoke(app, [*words, url])
        assert (done.exit_code, "119 images used, 1 left out" in done.stderr) == (code, True)
        assert "disc/0000.png" in done.stderr
        assert "account" not in done.stdout
    found = json.loads(CliRunner().invoke(app, [*words, server.url, "--json"]).stdout)
    assert (found["account"]["used"], found["account"]["left_out"]) == (119, 1)


def test_images_without_labels_are_sent_and_their_labels_refused(server: Server) -> None:
    images = np.zeros((3, 32, 32, 3), np.uint8)
    report = send(server.url, Stream(images, None, CLASSIFICATION), count=3, rate=500)
    assert (report.answered, report.labelled, report.accuracy) == (3, 0, None)
    with pytest.raises(SettingsError, match=r"There are no labels to send.*Leave out --labels"):
        send(server.url, Stream(images, None, CLASSIFICATION), count=3, labels=True)


def test_boxes_get_the_numbers_of_the_data_sets_classes() -> None:
    boxes = objects([np.array([[0, 0, 4, 4, 1]], np.float32), np.zeros((0, 5), np.float32)])
    moved = _renumbered(Path("own"), boxes, ("dog", "cat"), ("cat", "dog"))
    assert [each[:, 4].tolist() for each in moved] == [[0.0], []]
    with pytest.raises(DataError, match=r"own has boxes of the class 'bird'.*Its classes are cat, dog"):
        _renumbered(Path("own"), boxes, ("dog", "bird"), ("cat", "dog"))


@pytest.mark.parametrize("text", ["brightness", "brightness:x", "noise:0", "blur:3", ""])
def test_a_corruption_without_a_strength_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a corruption"):
        parse_corruption(text)


def test_the_strength_is_a_share_of_the_hardest() -> None:
    assert [parse_corruption(f"noise:{strength}")[1] for strength in (0.2, 0.4, 1)] == [1, 2, 5]
