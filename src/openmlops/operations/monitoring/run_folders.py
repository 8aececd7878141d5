"""The folders of MONITORING_DIR: one for each of the latest monitoring runs, named like its decision, and never written again.

For people, links with the names of the files lead to those of the last run. No code reads them: two runs may end at once.
"""

import os
import re
import shutil
import uuid
from pathlib import Path

WINDOW_FILE, OUTCOME_FILE = "inference.parquet", "monitoring.json"
LAST = "latest"
SHOWN = (WINDOW_FILE, OUTCOME_FILE, "evidently_report.html", "evidently_report.json")
KEPT = 20
"""folders that are kept; MLflow has the files of all runs"""
_RUN = re.compile(r"[0-9a-f]{12}")


def show_last(folder: Path, run: str) -> None:
    """Let the links of `folder` lead to a run, and delete the oldest runs beyond KEPT."""
    _link(folder / LAST, run)
    for name in SHOWN:
        _link(folder / name, f"{LAST}/{name}")
    for old in _runs(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _runs(folder: Path) -> list[Path]:
    """The folders of runs, the latest first."""
    found = [(path.stat().st_mtime, path) for path in folder.iterdir() if _RUN.fullmatch(path.name) and path.is_dir()]
    return [path for _, path in sorted(found, reverse=True)]


def _link(path: Path, target: str) -> None:
    """Replace `path`, also a file of an earlier release, by a relative link, in one step."""
    if path.is_symlink() and os.readlink(path) == target:
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    beside.symlink_to(target)
    os.replace(beside, path)
