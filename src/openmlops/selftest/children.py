"""What the processes do that a fault ends or hinders. Each prints a line for what it was told is kept."""

import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.errors import ServiceUnavailable
from openmlops.files import replacing, write_bytes
from openmlops.temporary import temporary_folder

MODEL, VERSION = "selftest", 1
LIMIT_BYTES = 600_000
"""largest file of a process whose disk fills"""
REFUSALS = 20


def entries(ids: list[str]) -> Entries:
    """Predictions as the server logs them."""
    n = len(ids)
    return Entries(
        model=MODEL,
        version=VERSION,
        layout=Layout(("brightness",), ("cat", "dog")),
        ids=ids,
        at=[datetime.now(UTC)] * n,
        input_sha256=["0" * 64] * n,
        features=np.zeros((n, 1), np.float32),
        predictions=[bytes(8)] * n,
        latency_ms=[1.0] * n,
    )


def log_predictions(folder: Path, mark: str) -> None:
    """Commit predictions one after the other, for ever, and print the number of each that was acknowledged."""
    log = InferenceLog(connect(f"sqlite:///{folder / 'openmlops.db'}"))
    for name in _names(mark):
        log.write([entries([name])])
        print(name, flush=True)


def log_on_a_disk_that_fills(folder: Path, mark: str) -> None:
    """The same with a limit on the size of files, until many were refused; then without it once more."""
    log = InferenceLog(connect(f"sqlite:///{folder / 'openmlops.db'}"))
    before, refused = resource.getrlimit(resource.RLIMIT_FSIZE), 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, before[1]))
    for name in _names(mark):
        if refused == REFUSALS:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        try:
            log.write([entries([name])])
        except ServiceUnavailable:
            refused += 1
        else:
            print(name, flush=True)
            if refused > REFUSALS - 1:
                return


def write_in_part(folder: Path, mark: str) -> None:
    """Write more than the limit on the size of files allows."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
    try:
        write_bytes(folder / mark, bytes(LIMIT_BYTES + 1))
    except OSError as error:
        print(f"refused: {error.strerror}", flush=True)


def stay_half_way(folder: Path, mark: str) -> None:
    """Begin a file and a folder, and never end."""
    with replacing(folder / mark) as beside, temporary_folder(folder, "arranged-") as scratch:
        beside.write_bytes(b"half")
        (scratch / "half").touch()
        print("half way", flush=True)
        time.sleep(600)


def serve_no_model(folder: Path, mark: str) -> None:
    """The prediction server on the port `mark`, in a home without a model."""
    from openmlops.serving.config import ServingConfig
    from openmlops.serving.run import serve

    home, database = folder / "home", SecretStr(f"sqlite:///{folder / 'home' / 'openmlops.db'}")
    tracking = SecretStr(f"sqlite:///{home / 'mlflow.db'}")
    serve(
        ServingConfig(model=MODEL, use_case="cifar10", home=home, database_url=database, tracking_uri=tracking, port=int(mark))
    )


def _names(mark: str) -> Iterator[str]:
    number = 0
    while True:
        yield f"{mark}-{number}"
        number += 1


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
