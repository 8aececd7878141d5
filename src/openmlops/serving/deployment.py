"""The deployed version: the ledger's champion, swapped in only after it is verified, checked and warmed up.

Polls the ledger for promotions and rollbacks. A version that cannot be loaded is never served: the previous one stays, and the
problem is logged and reported by /health/ready and /metrics.
"""

import asyncio
import logging
import time

from openmlops.adapters.last_champion import LastChampion
from openmlops.adapters.ledger import Ledger
from openmlops.core.types import LedgerEntry, Value
from openmlops.errors import LedgerBehind, ModelNotFound, OpenMLOpsError, ServiceUnavailable
from openmlops.serving.calls import in_daemon_thread
from openmlops.serving.commit import INPUTS, LOG
from openmlops.serving.config import ServingConfig
from openmlops.serving.fetch import local_copy
from openmlops.serving.metrics import Metrics
from openmlops.serving.predictor import Predictor, load
from openmlops.serving.spool import SpooledLog
from openmlops.usecases.base import UseCase
from openmlops.web.conditions import Conditions

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0
STORES = (INPUTS, LOG)

log = logging.getLogger(__name__)


class State(Value):
    """Serving version, champion version, and the problem if they differ.

    `database`: whether it was reachable and writable at the last check. `spooled`: number of entries in the local spool; None
    if the database is a local file. `stores`: whether predictions and their inputs can be stored, without which every
    prediction is refused. `problem`: also what background work fails at.
    """

    serving: int | None
    champion: int | None
    database: bool
    spooled: int | None
    stores: bool
    problem: str | None

    @property
    def ready(self) -> bool:
        """Whether predictions can be served: needs a version, and a database or a spool that accept entries."""
        return self.serving is not None and (self.database or self.spooled is not None) and self.stores


class Deployment:
    """The serving version of one worker process. `current` is swapped atomically: a batch uses one version."""

    def __init__(
        self,
        config: ServingConfig,
        ledger: Ledger,
        use_case: UseCase,
        metrics: Metrics,
        spool: SpooledLog | None,
        conditions: Conditions,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._spool = spool
        self._conditions = conditions
        self._memory = LastChampion(config.spool, config.model)
        self._remembered = self._memory.entry()
        self._verified = ""
        """hash of the newest row of the ledger that was seen to go on from what is remembered"""
        self._use_case = use_case
        self._metrics = metrics
        self._champion: int | None = None
        self._first: asyncio.Future[None] | None = None
        self._reached = True
        self.problem: str | None = None
        """why the serving version is not the champion, or that the ledger cannot be read"""
        self._refused: str | None = None
        self._retry_at = 0.0
        self._retry_seconds = FIRST_RETRY_SECONDS
        self.current: Predictor | None = None

    async def start(self) -> None:
        """Load the champion, if there is one; the last known champion if the database does not respond in time."""
        state = self._remembered if self._spool else None
        self._first = asyncio.ensure_future(in_daemon_thread(self.refresh))
        await asyncio.wait([self._first], timeout=self._config.limits.divert_seconds if state else None)
        if state is not None and not (self._first.done() and self._reached):
            self._champion = state.champion
            await in_daemon_thread(self._activate, state)

    def state(self) -> State:
        """The current state; queries the size of the spool."""
        spooled, diverted = (self._spool.waiting(), self._spool.problem) if self._spool else (None, None)
        return State(
            serving=self.current.version if self.current else None,
            champion=self._champion,
            database=self._reached and diverted is None,
            spooled=spooled,
            stores=not any(map(self._conditions.of, STORES)),
            problem="; ".join(filter(None, [self.problem, diverted, *self._conditions.all()])) or None,
        )

    async def follow(self) -> None:
        """Poll the ledger every `poll_seconds` until cancelled."""
        if self._first is not None:
            await self._first
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            await in_daemon_thread(self.refresh)

    def refresh(self) -> None:
        """Load the champion if it is not the serving version; blocks while loading."""
        try:
            head = self._ledger.head(self._config.model)
            self._require_remembered(head)
            entry = self._entry(head)
            self._champion = entry.champion
            self._metrics.champion.set(entry.version)
            if not self._in_service(entry) and not self._is_waiting(entry):
                self._ledger.history(entry.model)  # verifies the hash chain before the champion is trusted
                self._activate(entry)
            elif self._in_service(entry):
                self.problem = None
            self._reached = True
        except OpenMLOpsError as error:
            self._reached = not isinstance(error, ServiceUnavailable)
            self._report(str(error))
        except Exception as error:  # noqa: BLE001 - any driver error, as of a cut connection: polled again
            self._reached = False
            self._report(f"The ledger cannot be read: {error!r}")

    def _require_remembered(self, head: LedgerEntry | None) -> None:
        """Raise LedgerBehind if the ledger lacks the row of the version that was served last: an old or empty database would
        put another one into service. That version stays; a server that has just started takes it up again."""
        remembered = self._remembered
        if remembered is None or (head and head.hash == self._verified):
            return
        found = self._ledger.since(remembered.model, remembered.sequence - 1)[:1] if head else ()
        anew = None if found and found[0].hash == remembered.hash else self._ledger.begun_anew(remembered.model)
        if (found and found[0].hash == remembered.hash) or (anew and remembered.at <= anew):
            self._verified = head.hash if head else ""
            return
        if self.current is None:
            self._champion = remembered.champion
            self._activate(remembered)
        name, row, version = remembered.model, remembered.sequence, remembered.version
        problem = f"The ledger of {name} lacks row {row}, by which version {version} was put into service: it is an old one"
        raise LedgerBehind(problem, f"Version {version} stays in service. Run `openmlops ledger check {name}`")

    def _entry(self, head: LedgerEntry | None) -> LedgerEntry:
        """The ledger entry that promoted the current champion; it holds the SHA-256 of the files to serve."""
        if head is None or head.champion is None:
            raise ModelNotFound(f"No version of {self._config.model} is champion yet", "Train one, or promote one")
        if head.kind in ("promote", "rollback"):
            return head
        made = [entry for entry in self._ledger.history(self._config.model) if entry.kind in ("promote", "rollback")]
        return made[-1]

    def _in_service(self, entry: LedgerEntry) -> bool:
        served = self.current
        return served is not None and (served.version, served.sha256) == (entry.version, entry.model_sha256)

    def _is_waiting(self, entry: LedgerEntry) -> bool:
        """Whether a refused version waits for its next attempt (exponential backoff): its files may be repaired."""
        return self._refused == entry.hash and time.monotonic() < self._retry_at

    def _activate(self, entry: LedgerEntry) -> None:
        try:
            predictor = self._load(entry)
        except Exception as error:  # noqa: BLE001 - no defect of a new version may affect the serving one
            self._refuse(entry, error)
            return
        self.current = predictor
        self.problem = self._refused = None
        self._memory.keep(entry)
        self._remembered = entry
        self._metrics.serving.set(predictor.version)
        self._metrics.swaps.inc()
        log.info("%s version %d is in service", predictor.name, predictor.version)

    def _load(self, entry: LedgerEntry) -> Predictor:
        config = self._config
        folder = local_copy(config, entry)
        use_case, at_once = self._use_case, config.limits.at_once
        return load(folder, entry.model_sha256, entry.model, entry.version, use_case, config.threads, at_once)

    def _refuse(self, entry: LedgerEntry, error: Exception) -> None:
        again = self._refused == entry.hash
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS) if again else FIRST_RETRY_SECONDS
        self._retry_at = time.monotonic() + self._retry_seconds
        self._refused = entry.hash
        self._metrics.load_failures.inc()
        is_known = isinstance(error, OpenMLOpsError)
        self._report(f"{entry.model} version {entry.version} was rejected: {error if is_known else repr(error)}")
        if not is_known:
            log.exception("unexpected failure of a new version", exc_info=error)

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
