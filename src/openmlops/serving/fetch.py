"""Fetch a version's files from the registry in a subprocess.

MLflow needs more memory than the rest of the server, so only this subprocess imports it. The request is JSON on standard input,
because a tracking URI may contain a password and command lines are visible to other users.
"""

import json
import subprocess
import sys
from pathlib import Path

from openmlops.core.types import LedgerEntry
from openmlops.errors import ModelCorrupt, OpenMLOpsError
from openmlops.serving.config import ServingConfig
from openmlops.serving.predictor import verify

FETCH_SECONDS = 600


def local_copy(config: ServingConfig, entry: LedgerEntry) -> Path:
    """The folder of a version's files: the verified local copy, fetched if missing. Raises ModelCorrupt."""
    folder = config.models / entry.model_sha256
    try:
        verify(folder, entry.model_sha256)
    except ModelCorrupt:
        _fetch(config, entry)
    return folder


def _fetch(config: ServingConfig, entry: LedgerEntry) -> None:
    uri = config.tracking_uri.get_secret_value()
    request = {
        "uri": uri,
        "cache": str(config.models),
        "name": entry.model,
        "version": entry.version,
        "sha256": entry.model_sha256,
    }
    command = [sys.executable, "-m", __name__]
    try:
        subprocess.run(command, input=json.dumps(request), check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or "").strip().splitlines() or [f"it did not finish within {FETCH_SECONDS} s"]
        raise ModelCorrupt(f"The files of {entry.model} version {entry.version} could not be fetched: {said[-1]}") from error


def main() -> None:
    """Fetch the version that standard input names; exits with 1 and one line on standard error on failure."""
    from openmlops.settings import quiet_libraries

    quiet_libraries()
    from openmlops.adapters.registry import Registry

    request = json.load(sys.stdin)
    registry = Registry(request["uri"], Path(request["cache"]))
    try:
        model = registry.version(request["name"], request["version"])
        registry.fetch(model.model_copy(update={"sha256": request["sha256"]}))
    except OpenMLOpsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
