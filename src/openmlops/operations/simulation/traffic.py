"""Simulated traffic: sends test images, or images of a folder, to a running server as a client would.

Uses HTTP only: PNG bodies to `/predict`, true labels to `/feedback`. Images can be corrupted before they are sent, as by a
degraded camera.
"""

import mimetypes
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import requests

from openmlops.core.images.boxes import objects
from openmlops.core.images.corruptions import CORRUPTIONS
from openmlops.core.tasks import Task
from openmlops.core.types import Account, Value
from openmlops.errors import DataError, EvaluationError, ServiceUnavailable, SettingsError, one_line
from openmlops.files import absolute
from openmlops.images.lazy import Images, corrupted, file_of, sizes
from openmlops.names import position
from openmlops.operations.data import datasets
from openmlops.operations.data.rows import rows_of
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Labelled

CLIENTS = 4
TIMEOUT_SECONDS = 30


class TrafficReport(Value):
    """Counts and latencies of sent requests. `accuracy` is the share of correct predictions, or the score that `metric` names;
    `ids` are the prediction ids received."""

    sent: int
    answered: int
    failed: int
    labelled: int
    metric: str = "accuracy"
    accuracy: float | None
    versions: dict[int, int]
    p50_ms: float | None
    p99_ms: float | None
    first_failure: str = ""
    ids: tuple[str, ...] = ()
    account: Account | None = None
    """what became of the files of the folder, if the images came from one"""


@dataclass(frozen=True)
class Stream:
    """n images to send, cyclically, with their true labels, None if they are not known, and the task that defines labels.

    Labels are sent with class names; without `names`, as a classifier's response names the classes, else by index.
    """

    images: Images
    labels: np.ndarray | None
    task: Task
    names: tuple[str, ...] = ()
    account: Account | None = None

    def part(self, rows: slice) -> "Stream":
        """A slice of the stream."""
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=self.images[rows], labels=labels)

    def corrupted(self, kind: str, severity: int, seed: int) -> "Stream":
        """The stream with corrupted images, severity 1 to 5, and labels moved accordingly."""
        labels = self.labels
        if labels is not None:
            labels = self.task.moved(labels, sizes(self.images), kind, severity, seed)
        return replace(self, images=corrupted(self.images, kind, severity, seed), labels=labels)


def stream_of_test_images(workspace: Workspace, corruption: str | None = None, seed: int = 0) -> Stream:
    """The test images of the current data in random order, corrupted by `kind:strength`. Raises SettingsError."""
    splits = datasets.split(workspace, datasets.ingest(workspace), seed=0)
    rows = rows_of(workspace, splits.dataset)
    test = datasets.indices_of(workspace, splits)["test"]
    return _shuffled(workspace, rows.images[test], rows.labels[test], rows.names, corruption, seed)


def stream_of_folder(
    workspace: Workspace,
    folder: Path,
    corruption: str | None = None,
    seed: int = 0,
    strict: bool = False,
    skip: bool = False,
) -> Stream:
    """Images of a folder outside the splits, with their labels if it has any, in random order, corrupted by `kind:strength`.
    `strict` and `skip` as in `datasets.add_with_notes`. Raises SettingsError, DataError and DataInvalid."""
    use_case = workspace.use_case
    if use_case.labelled is None:
        raise SettingsError(f"The use case '{use_case.name}' does not read folders of images", "Remove --images")
    if not absolute(folder).is_dir():
        raise DataError(f"There is no folder {folder}", "Name a folder of images with --images")
    place, data = absolute(folder), workspace.data_folder
    read = use_case.labelled(place)
    found = read if isinstance(read, Labelled) else Labelled(*read)
    problems = datasets.judged(found.problems, strict, skip)
    datasets.refuse(place, problems, "Correct the files", strict, lines=False)
    names = use_case.names(data) if use_case.names is not None and data.is_dir() else ()
    labels = found.labels
    if labels is not None and found.names and names:
        labels = _renumbered(place, labels, found.names, names)
    stream = _shuffled(workspace, found.images, labels, names or found.names, corruption, seed)
    return replace(stream, account=Account.of(len(found.images), problems))


def _renumbered(place: Path, labels: np.ndarray, names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Boxes, an object array of (m, 5) whose classes are `names`, with the numbers that these have in `known`.

    Raises DataError for a class that is not among them.
    """
    used = {int(number) for boxes in labels for number in boxes[:, 4]}
    if unknown := [names[number] for number in sorted(used) if position(names[number], known) is None]:
        problem = f"{place} has boxes of the class '{unknown[0]}', which the data set does not have"
        raise DataError(problem, f"Its classes are {', '.join(known)}: rename the class, or remove its boxes")
    numbers = np.array([position(name, known) or 0 for name in names], np.float32)
    moved = []
    for boxes in labels:
        moved.append(boxes.copy())
        moved[-1][:, 4] = numbers[boxes[:, 4].astype(np.int64)]
    return objects(moved)


def _shuffled(
    workspace: Workspace, images: Images, labels: np.ndarray | None, names: tuple[str, ...], corruption: str | None, seed: int
) -> Stream:
    order = np.random.default_rng(seed).permutation(len(images))
    stream = Stream(images[order], None if labels is None else labels[order], workspace.use_case.task, names)
    return stream.corrupted(*parse_corruption(corruption), seed) if corruption else stream


def parse_corruption(text: str) -> tuple[str, int]:
    """`brightness:0.4` -> the kind and a severity of 1 to 5. Raises SettingsError."""
    kind, _, strength = text.partition(":")
    try:
        severity = round(5 * float(strength))
    except ValueError:
        severity = 0
    if not 1 <= severity <= 5:
        problem = f"'{text}' is not a corruption: '{strength}' is not a strength between 0.1 and 1"
        raise SettingsError(problem, "Write it as brightness:0.4, with one of " + ", ".join(CORRUPTIONS))
    return kind, severity


def send(
    url: str,
    stream: Stream,
    *,
    count: int | None = None,
    seconds: float | None = None,
    rate: float = 50.0,
    labels: bool = False,
    token: str = "",
    stop: threading.Event | None = None,
    show: Callable[[int], None] = lambda sent: None,
) -> TrafficReport:
    """Send `count` images, or for `seconds`, at `rate` images per second over CLIENTS connections; with `labels`, also the true
    labels. `show` is called with the number of images sent.

    A failed request is counted, never repeated. Raises SettingsError if labels are wanted and not known, ServiceUnavailable if
    nothing answers at `url` at all.
    """
    if labels and stream.labels is None:
        problem = "There are no labels to send: the folder has no folders of known classes, or no label files"
        raise SettingsError(problem, "Leave out --labels, or pass a folder with labels")
    _require_server(url, token)
    tally = _TrafficCounts(stream)
    until = time.monotonic() + seconds if seconds else float("inf")
    with ThreadPoolExecutor(CLIENTS, thread_name_prefix="client") as clients:
        for number in _paced(rate, until, count, stop or threading.Event()):
            index = number % len(stream.images)
            client = _Client(url, token, labels, tally)
            clients.submit(client.send, index)
            show(number + 1)
    return tally.report()


def media_type(suffix: str) -> str:
    """The media type of files with this suffix."""
    return mimetypes.guess_type(f"image{suffix}")[0] or "application/octet-stream"


def _paced(rate: float, until: float, count: int | None, stop: threading.Event) -> Iterator[int]:
    """0, 1, 2, ... at `rate` per second, catching up after delays, until `until`, `count` or `stop`."""
    start, number = time.monotonic(), 0
    while (count is None or number < count) and time.monotonic() < until and not stop.is_set():
        yield number
        number += 1
        time.sleep(max(0.0, start + number / rate - time.monotonic()))


class _TrafficCounts:
    """Counts of all clients, guarded by one lock."""

    def __init__(self, stream: Stream) -> None:
        self._lock = threading.Lock()
        self.stream = stream
        self.predictions: list[tuple[int, np.ndarray]] = []
        self.counts: Counter[str] = Counter()
        self.versions: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.ids: list[str] = []
        self.failure = ""

    def add(self, change: Callable[["_TrafficCounts"], None]) -> None:
        with self._lock:
            change(self)

    def report(self) -> TrafficReport:
        counts, answered = self.counts, self.counts["answered"]
        p50, p99 = np.percentile(self.latencies, [50, 99]).tolist() if self.latencies else (None, None)
        return TrafficReport(
            sent=counts["sent"],
            answered=answered,
            failed=counts["failed"],
            labelled=counts["labelled"],
            metric=self.stream.task.score_name,
            accuracy=self._score(),
            versions=dict(sorted(self.versions.items())),
            p50_ms=p50,
            p99_ms=p99,
            first_failure=self.failure,
            ids=tuple(self.ids),
            account=self.stream.account,
        )

    def _score(self) -> float | None:
        """The task's score; None without predictions, or if the labels do not define one."""
        if not self.predictions or self.stream.labels is None:
            return None
        rows, predictions = zip(*self.predictions, strict=True)
        labels, boxes = self.stream.labels[list(rows)], self.stream.task.kind == "detection"
        classes = (
            1 + int(max(found[:, -1].max(initial=0) for found in (*labels, *predictions))) if boxes else len(predictions[0])
        )
        try:
            return self.stream.task.score_of(labels, objects(predictions) if boxes else np.stack(predictions), classes).value
        except EvaluationError:
            return None


@dataclass(frozen=True)
class _Client:
    url: str
    token: str
    labels: bool
    tally: _TrafficCounts

    def send(self, row: int) -> None:
        """Read and send one image of the stream, and its label if enabled; failures are counted."""
        try:
            content, suffix = file_of(self.tally.stream.images, row)
            start = time.perf_counter()
            response = self._post("/predict", data=content, headers={"Content-Type": media_type(suffix)})
            taken = time.perf_counter() - start
            if self.labels and self.tally.stream.labels is not None:
                names = self.tally.stream.names or tuple(response.get("probabilities", ()))
                label = self.tally.stream.task.as_feedback(self.tally.stream.labels[row], names)
                self._post("/feedback", json={"prediction_id": response["prediction_id"], "label": label})
        except (requests.RequestException, ValueError, KeyError, DataError) as error:
            failure = one_line(f"{type(error).__name__}: {error}")[:300]
            self.tally.add(lambda tally: _failed(tally, failure))
            return
        self.tally.add(lambda tally: _count_prediction(tally, response, row, 1000 * taken, self.labels))

    def _post(self, path: str, **what: Any) -> dict[str, Any]:
        headers = what.pop("headers", {}) | _authorisation(self.token)
        response = _session().post(self.url + path, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, **what)
        response.raise_for_status()
        return response.json()


def _failed(tally: _TrafficCounts, failure: str) -> None:
    tally.counts.update(("sent", "failed"))
    tally.failure = tally.failure or failure


def _count_prediction(tally: _TrafficCounts, response: dict[str, Any], row: int, milliseconds: float, labelled: bool) -> None:
    tally.counts.update(("sent", "answered"))
    tally.predictions.append((row, _PARSERS[tally.stream.task.kind](response)))
    tally.counts["labelled"] += labelled
    tally.versions[response["model"]["version"]] += 1
    tally.latencies.append(milliseconds)
    tally.ids.append(response["prediction_id"])


def _probabilities(response: dict[str, Any]) -> np.ndarray:
    """float32 (classes,)"""
    return np.array(list(response["probabilities"].values()), np.float32)


def _boxes(response: dict[str, Any]) -> np.ndarray:
    """float32 (k, 6)"""
    rows = [
        (*box, score, label)
        for box, score, label in zip(response["boxes"], response["scores"], response["labels"], strict=True)
    ]
    return np.array(rows, np.float32).reshape(-1, 6)


_PARSERS = {"classification": _probabilities, "detection": _boxes}
_threads = threading.local()


def _session() -> requests.Session:
    """One keep-alive session per thread."""
    if not hasattr(_threads, "session"):
        _threads.session = requests.Session()
    return _threads.session


def _authorisation(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _require_server(url: str, token: str) -> None:
    """Raises ServiceUnavailable unless a server is ready. Redirects are refused: the token is meant for this server only."""
    headers = _authorisation(token)
    try:
        response = requests.get(f"{url}/health/ready", headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        response.raise_for_status()
        found = "" if response.status_code == HTTPStatus.OK else str(response.status_code)
    except (requests.RequestException, ValueError) as error:
        found = type(error).__name__
    if found:
        problem = f"No ready server at {url[:200]} ({found})"
        raise ServiceUnavailable(problem, "Start one with `openmlops serve`, or give its URL with --url")
