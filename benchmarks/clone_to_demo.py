"""How long a newcomer waits: `git clone` of this repository, `make setup`, `make demo`, each timed. Prints Markdown.

The environment is made anew, packages come from wherever pip gets them, its caches included.
What is not measured: installing Python, git and make.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from openmlops.core.types import Value

ROOT = Path(__file__).parents[1]


class Part(Value):
    """One command and how long it took."""

    what: str
    seconds: float


def measure(source: str, folder: Path) -> list[Part]:
    """Run the three commands one after the other in `folder`. Raises CalledProcessError for one that fails."""
    clone = folder / "openmlops"
    commands = (
        ["git", "clone", "--quiet", source, str(clone)],
        ["make", "-C", str(clone), "setup"],
        ["make", "-C", str(clone), "demo"],
    )
    found = []
    for command in commands:
        start = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        found.append(
            Part(
                what=" ".join(command).replace(str(clone), "openmlops").replace(" --quiet", ""),
                seconds=time.monotonic() - start,
            )
        )
    assert (clone / "demo" / "report.html").stat().st_size > 0, "the demo left no page"
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default=str(ROOT), help="what to clone; default this repository")
    with tempfile.TemporaryDirectory() as folder:
        parts = measure(parser.parse_args().source, Path(folder))
    print("| what | seconds |\n|---|---|")
    for part in (*parts, Part(what="from nothing to the finished page", seconds=sum(part.seconds for part in parts))):
        print(f"| {part.what} | {part.seconds:.0f} |")


if __name__ == "__main__":
    main()
