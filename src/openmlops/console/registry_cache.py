"""Background cache of a model's versions in MLflow, so that a page does not block on an unresponsive server."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from urllib.parse import quote, urlsplit

from openmlops.core.types import Interval, ModelRef, Value
from openmlops.errors import OpenMLOpsError
from openmlops.operations.projects.doctor import Finding, lost
from openmlops.operations.release.aliases import recorded_only, what_is_gone
from openmlops.operations.release.listing import scores
from openmlops.operations.workspace import Workspace

FRESH_SECONDS = 10.0
"""how long a listing counts as fresh"""
WAIT_SECONDS = 2.0
"""how long a page waits for the first listing"""
MAX_VERSIONS = 50
"""number of newest versions to display"""


class Figures(Value):
    """One registered version: its score on the test split, and its MLflow URLs (empty without a server). `gone` says what was
    deleted of it in MLflow; empty if nothing."""

    version: int
    dataset: str
    metric: str = ""
    score: Interval | None = None
    version_page: str = ""
    run_page: str = ""
    gone: str = ""


class Listing(Value):
    """A model's versions in MLflow, oldest first; `problem` says why there are none, or no newer ones; `is_late`:
    still loading. `lost`: what is gone elsewhere, of the data's copies and in ZenML."""

    versions: tuple[Figures, ...] = ()
    lost: tuple[Finding, ...] = ()
    problem: str = ""
    is_late: bool = False


class RegistryCache:
    """Listings by model, refreshed in the background."""

    def __init__(self, workspace: Workspace, clock: Callable[[], float] = time.monotonic) -> None:
        self._workspace, self._clock = workspace, clock
        self._threads = ThreadPoolExecutor(1, "registered")
        self._alone = threading.Lock()
        self._queried: dict[str, tuple[float, Future[Listing]]] = {}
        self._known: dict[str, Listing] = {}
        self._figures: dict[ModelRef, Figures] = {}

    def look(self, model: str) -> Listing:
        """The listing of a model; the first call waits up to WAIT_SECONDS for it."""
        at, found = self._query(model)
        wait([found], timeout=max(0.0, at + WAIT_SECONDS - self._clock()))
        if found.done():
            self._known[model] = found.result()
        return self._known.get(model) or Listing(problem="MLflow has not responded yet", is_late=True)

    def ask(self, models: Iterable[str]) -> None:
        """Begin to load the listings of several models, so that `look` waits for all of them together, not for each."""
        for model in models:
            self._query(model)

    def forget(self, model: str) -> None:
        """Invalidate a listing after a change."""
        with self._alone:
            self._queried.pop(model, None)

    def _query(self, model: str) -> tuple[float, Future[Listing]]:
        with self._alone:
            at, found = self._queried.get(model, (0.0, None))
            if found is None or (found.done() and self._clock() - at > FRESH_SECONDS):
                at, found = self._clock(), self._threads.submit(self._read, model)
                self._queried[model] = (at, found)
            return at, found

    def _read(self, model: str) -> Listing:
        gone = lost(self._workspace) if model == self._workspace.model_name else ()
        try:
            refs = {entry.version: recorded_only(entry) for entry in self._workspace.ledger.history(model)}
            refs |= {ref.version: ref for ref in self._workspace.registry.versions(model)}
            newest = sorted(refs)[-MAX_VERSIONS:]
            return Listing(versions=tuple(self._of(refs[version]) for version in newest), lost=gone)
        except OpenMLOpsError as error:
            state = self._known.get(model, Listing())
            return Listing(versions=state.versions, lost=gone, problem=str(error))

    def _of(self, ref: ModelRef) -> Figures:
        """Figures of a version that nothing was deleted of are cached: test metrics do not change."""
        gone = what_is_gone(self._workspace, ref)
        if gone or ref not in self._figures:
            self._figures[ref] = self._measured(ref, gone)
        return self._figures[ref]

    def _measured(self, ref: ModelRef, gone: str) -> Figures:
        if gone:
            return Figures(version=ref.version, dataset=ref.dataset, gone=gone)
        metrics = self._workspace.registry.run_metrics(ref.run_id) if ref.run_id else {}
        name = next((name for name in scores() if name in metrics), "")
        ends = (name, f"{name}_low", f"{name}_high")
        value, low, high = (metrics.get(each) for each in ends)
        is_whole = value is not None and low is not None and high is not None
        pages = pages_of(self._workspace, ref) if ref.run_id else ("", "")
        return Figures(
            version=ref.version,
            dataset=ref.dataset,
            metric=name.removeprefix("test_"),
            score=Interval(value=value, low=low, high=high) if is_whole else None,  # type: ignore[arg-type]
            version_page=pages[0],
            run_page=pages[1],
        )


def pages_of(workspace: Workspace, ref: ModelRef) -> tuple[str, str]:
    """URLs of a version and of its run in MLflow; empty if MLflow is a local file."""
    root = public(workspace.settings.tracking_uri)
    if not root:
        return "", ""
    experiment = workspace.registry.experiment_of(ref.run_id)
    version = f"{root}/#/models/{quote(ref.name)}/versions/{ref.version}"
    return version, f"{root}/#/experiments/{quote(experiment)}/runs/{quote(ref.run_id)}"


def public(url: str) -> str:
    """The URL of a server without user name and password; empty if it is not an HTTP URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
