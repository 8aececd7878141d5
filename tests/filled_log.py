"""A workspace whose log is filled directly, as a server would have filled it over months."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from openmlops.adapters.inference_log import Entries, Layout
from openmlops.core.classification.task import CLASSIFICATION
from openmlops.core.types import Verdict
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

NOW = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
MODEL = "cifar10_cnn"
LAYOUT = Layout(("brightness", "contrast"), ("cat", "dog"))


def workspace(home: Path, **settings: str) -> Workspace:
    """A home without anything in it."""
    places = {
        "OPENMLOPS_HOME": f"{home}/state",
        "DATA_RAW_DIR": f"{home}/raw",
        "ARTIFACTS_DIR": f"{home}/artifacts",
        "MONITORING_DIR": f"{home}/monitoring",
    }
    return Workspace(Settings.load({**places, **settings}, dotenv=home / ".env"))


def promote(found: Workspace, version: int, kind: str = "promote", model: str = MODEL) -> None:
    """A row of the ledger."""
    head = found.ledger.head(model)
    verdict = Verdict(
        outcome="promote" if kind == "promote" else "reject", reasons=("made",), challenger=version, champion=None
    )
    found.ledger.append(
        model=model, expected_sequence=head.sequence if head else 0, kind=kind, version=version, actor="a test",
        reasons=("made",), dataset=f"{version:064x}", model_sha256=f"{version:064x}", verdict=verdict, at=NOW,
    )  # fmt: skip


def log(
    found: Workspace, n: int, days: float, version: int = 1, seconds: float = 60.0, model: str = MODEL, mark: str = ""
) -> list[str]:
    """`n` predictions, the first one `days` before NOW, one every `seconds`; their ids."""
    first = NOW - timedelta(days=days)
    ids = [f"{mark or version}-{days:g}-{row}" for row in range(n)]
    found.inference_log.write(
        [
            Entries(
                model=model,
                version=version,
                layout=LAYOUT,
                ids=ids,
                at=[first + timedelta(seconds=seconds * row) for row in range(n)],
                input_sha256=[f"{hash(name) & 0xFFFFFFFF:064x}" for name in ids],
                features=np.zeros((n, 2), np.float32),
                predictions=[b"12345678"] * n,
                latency_ms=[1.0 + row % 10 for row in range(n)],
            )
        ]
    )
    return ids


def label(found: Workspace, name: str, used: bool) -> None:
    """A label of a prediction, which a data version has used or not."""
    found.inference_log.label(name, 1, CLASSIFICATION.read_label, NOW)
    if used:
        found.labelled_inputs.mark_used([name], "d" * 64, NOW)
