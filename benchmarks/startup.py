"""How soon commands answer: cpu-seconds of those that only read, and of `train` and `monitor` until their first work.

Cpu-seconds are those of the process and of the processes that it waited for, user and system, as the system counts them. Beside
them stand the commands of the tools that this project stands on, and what the imports of any such command line take
(`python -c "import sqlalchemy, pydantic, typer"`), in multiples of which each figure is given. All in a temporary folder, with
a champion, a window of answers and a decision on it. Prints Markdown.

The first work of `train` is the first file of the data set that it opens; that of `monitor` the first query for answers. The
process ends there. `ZenML alone` is a pipeline of one empty step on the same store, until that step begins.

    python benchmarks/startup.py [--rounds 5]
"""

import argparse
import importlib
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from openmlops.settings import move_into

TESTS = Path(__file__).resolve().parents[1] / "tests"
BIN = Path(sys.executable).parent
REFERENCE = "import sqlalchemy, pydantic, typer"
IMPORTS = f"`python -c '{REFERENCE}'`"
ANSWERS = 120
AT_WORK = 77
"""exit code of a process that has come to its first work"""

TRAIN = """
import os, sys
folder, sys.argv = sys.argv[1], ["openmlops", "train", "--epochs", "1"]
def watch(event, values):
    if event == "open" and str(values[0]).startswith(folder + "/"):
        os._exit(77)
sys.addaudithook(watch)
from openmlops.cli import main
main()
"""

MONITOR = """
import os, sys
from sqlalchemy import Engine, event
sys.argv = ["openmlops", "monitor"]
@event.listens_for(Engine, "before_cursor_execute")
def watch(connection, cursor, statement, *rest):
    if "FROM inference " in " ".join(statement.split()) + " ":
        os._exit(77)
from openmlops.cli import main
main()
"""

EMPTY = """
import os
from openmlops.settings import embed_zenml, quiet_libraries
from pathlib import Path
quiet_libraries()
embed_zenml(Path(".openmlops").resolve())
from zenml import pipeline, step
@step(enable_cache=False)
def nothing() -> int:
    os._exit(77)
@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def empty() -> None:
    nothing()
if __name__ == "__main__":
    empty()
"""


def main(rounds: int) -> None:
    """Make the home, then measure each command `rounds` times, all in turns, after a turn that does not count."""
    model, decision, data = world()
    commands = commands_of(model, decision, data)
    taken = {name: [] for name in commands}
    for round_ in range(-1, rounds):
        for name, words in commands.items():
            spent = spent_on(words)
            if round_ >= 0:
                taken[name].append(spent)
    print(f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, MLflow {version('mlflow')}, ", end="")
    print(f"ZenML {version('zenml')}, n = {rounds}, medians (least, most)\n")
    unit = statistics.median(cpu for cpu, _ in taken[IMPORTS])
    print("| command | cpu-seconds | in imports | seconds |\n|---|---|---|---|")
    for name, spent in taken.items():
        cpu, wall = (sorted(column) for column in zip(*spent, strict=True))
        middle = statistics.median(cpu)
        figures = f"{middle:.2f} ({cpu[0]:.2f} to {cpu[-1]:.2f}) | {middle / unit:.1f}"
        print(f"| {name} | {figures} | {statistics.median(wall):.1f} |")


def commands_of(model: str, decision: str, data: Path) -> dict[str, list[str]]:
    """What is measured, by what it is called."""
    ours, python = str(BIN / "openmlops"), sys.executable
    Path("empty.py").write_text(EMPTY)
    return {
        IMPORTS: [python, "-c", REFERENCE],
        "`git --version`": ["git", "--version"],
        "`dvc --version`": [str(BIN / "dvc"), "--version"],
        "`mlflow --version`": [str(BIN / "mlflow"), "--version"],
        "`zenml version`": [str(BIN / "zenml"), "version"],
        "`openmlops --version`": [ours, "--version"],
        "`openmlops --help`": [ours, "--help"],
        "`openmlops settings`": [ours, "settings"],
        "`openmlops history MODEL`": [ours, "history", model],
        "`openmlops decisions`": [ours, "decisions"],
        "`openmlops why ID`": [ours, "why", decision],
        "`openmlops models`": [ours, "models"],
        "`openmlops doctor`": [ours, "doctor"],
        "ZenML alone, to its first step": [python, "empty.py"],
        "`openmlops train`, to its first work": [python, "-c", TRAIN, str(data)],
        "`openmlops monitor`, to its first work": [python, "-c", MONITOR],
    }


def world() -> tuple[str, str, Path]:
    """A champion of the sample, answers of it and a decision, in the current folder: the model, the decision, the data."""
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    small_loop = importlib.import_module("small_loop")
    from datetime import UTC, datetime

    from openmlops.adapters.decisions import new_id
    from openmlops.adapters.evidently_report import EvidentlyReport
    from openmlops.operations.monitoring import monitor, windows
    from openmlops.operations.workspace import Workspace

    workspace = Workspace.open()
    model = small_loop.champion(workspace)
    small_loop.send(workspace, model, small_loop.fresh_images(ANSWERS, seed=1)[0])
    now = datetime.now(UTC)
    window = windows.collect_inference_data(workspace, model, ANSWERS, "log", now)
    report = EvidentlyReport(problems=("not drawn here",))
    decided = monitor.trigger_decision(workspace, window, report, now, "a benchmark", new_id())
    return model.name, decided.id, workspace.data_folder


def spent_on(words: list[str]) -> tuple[float, float]:
    """Cpu-seconds and seconds of a command, until it ends. Raises RuntimeError for one that fails or comes to no first work."""
    expected = AT_WORK if words[0] == sys.executable and REFERENCE not in words else 0
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expected:
            said.seek(0)
            raise RuntimeError(f"{words} ended with {process.returncode}: {said.read().decode()[-500:]}")
    return used.ru_utime + used.ru_stime, seconds


def processor() -> str:
    """What the system calls its processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        move_into(Path(folder))
        main(chosen.rounds)
