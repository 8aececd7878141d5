"""What `--jobs 2` saves: the same grid of four, one run after the other and two at once, each in an empty workspace.

    python benchmarks/grid_jobs.py COCO128 [--rounds N]

COCO128 is the unpacked folder. Each round draws the tiny data set of people from it and times `openmlops grid --epochs 3,5
--imgsz 320,416` as a user gives it, imports and export included, with one thread a run both times.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GRID = ("grid", "--use-case", "person", "--epochs", "3,5", "--imgsz", "320,416", "--set", "threads=1", "--json")


def main(coco128: Path, rounds: int) -> None:
    """Print the table."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    tables = set()
    for _ in range(rounds):
        for jobs in seconds:
            with tempfile.TemporaryDirectory() as folder:
                taken, table = timed(Path(folder), coco128, jobs)
                seconds[jobs].append(taken)
                tables.add(table)
    one, two = (statistics.median(found) for found in seconds.values())
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, n = {rounds}, medians\n")
    print("| grid of four | seconds | share of one after the other |\n|---|---|---|")
    print(f"| one after the other | {one:.0f} | 1.00 |\n| --jobs 2 | {two:.0f} | {two / one:.2f} |")
    print(f"\nThe tables were {'the same' if len(tables) == 1 else 'NOT the same'}.")


def timed(folder: Path, coco128: Path, jobs: int) -> tuple[float, str]:
    """Seconds of one grid, and what its table says."""
    run(folder, "data", "tiny-person", str(coco128), "--json")
    start = time.perf_counter()
    found = json.loads(run(folder, *GRID, "--jobs", str(jobs)))
    return time.perf_counter() - start, json.dumps([(r["config"]["epochs"], r["map50"], r["recall"]) for r in found["runs"]])


def run(folder: Path, *words: str) -> str:
    """One command in the folder; its standard output."""
    program = Path(sys.executable).parent / "openmlops"
    return subprocess.run([program, *words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco128", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    main(given.coco128.resolve(), given.rounds)
