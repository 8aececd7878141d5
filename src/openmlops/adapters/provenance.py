"""Provenance of a run: commit, user, host, process, installed packages. No secrets, no environment variables."""

import getpass
import hashlib
import os
import platform
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import distributions
from pathlib import Path


def provenance() -> dict[str, str]:
    """Tags of a run. `git.dirty` is `true` or `false`; without a repository there are no git tags."""
    return {
        **_git(),
        "mlflow.user": _user(),
        "mlflow.source.name": "openmlops",
        "mlflow.source.type": "LOCAL",
        "host": socket.gethostname(),
        "pid": str(os.getpid()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "environment.sha256": hashlib.sha256(environment().encode()).hexdigest(),
    }


@cache
def environment() -> str:
    """All installed distributions as `name==version`, one per line, sorted: a requirements file of the environment.

    Packages that a library vendors and adds to the path on import (setuptools) are left out.
    """
    installed = [folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
    return "".join(
        f"{line}\n" for line in sorted({f"{found.name}=={found.version}".lower() for found in distributions(path=installed)})
    )


def _user() -> str:
    """The user's name, or the user id if there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _git() -> dict[str, str]:
    """Commit of the repository that contains this code, or else the current folder."""
    for folder in (Path(__file__).parent, Path.cwd()):
        commit = _run_git(folder, "rev-parse", "HEAD")
        if commit:
            changed = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
            return {"mlflow.source.git.commit": commit, "git.dirty": "true" if changed else "false"}
    return {}


def _run_git(folder: Path, *question: str) -> str:
    try:
        command = ["git", "--no-optional-locks", "-C", str(folder), *question]  # reads only, without refreshing the index
        response = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return response.stdout.strip() if response.returncode == 0 else ""
