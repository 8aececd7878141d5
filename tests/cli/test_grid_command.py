"""Claims about `openmlops grid` as a user gives it: one object or a table, one line a mistake, exit codes that are true."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.tracking import FAILURE_TAG
from openmlops.cli import main
from openmlops.cli.grid import print_experiment
from openmlops.errors import SettingsError
from openmlops.operations.training.grid import grid_of, train_all
from openmlops.operations.training.grid_jobs import PARENT_TAG
from openmlops.operations.training.grid_report import FILE, Experiment
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from small_people import clean_environment, environment, inside, other_process, people_workspace, splits_of

PROGRAM = Path(sys.executable).parent / "openmlops"
AXES = {"epochs": (1,), "imgsz": (64,), "pretrained": ("none", "nowhere.pt")}
GRID = ("grid", "--use-case", "person", "--epochs", "1", "--imgsz", "64", "--set", "pretrained=none,nowhere.pt", "--jobs", "2")


@dataclass(frozen=True)
class Home:
    """A workspace, and the commands that are given in its folder."""

    workspace: Workspace

    def give(self, *words: str) -> subprocess.CompletedProcess[str]:
        folder = self.workspace.home.parent
        own = {**environment(self.workspace), "HOME": str(folder / "user"), "XDG_CONFIG_HOME": str(folder / "user")}
        (folder / "user").mkdir(exist_ok=True)
        surroundings = clean_environment() | own
        return subprocess.run(
            [PROGRAM, *words], cwd=folder, env=surroundings, capture_output=True, text=True, timeout=800, check=False
        )

    def runs(self) -> dict[str, Any]:
        """MLflow's runs, by id."""
        client = connect(self.workspace.settings.tracking_uri)
        experiments = [found.experiment_id for found in client.search_experiments()]
        return {run.info.run_id: run for run in client.search_runs(experiments)}

    def failed_with(self, *words: str) -> tuple[str, list[Any]]:
        """The one error line of a command that must fail with exit code 1, and the MLflow runs that it opened."""
        before = self.runs()
        done = self.give(*words)
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.stderr.strip().endswith(line)
        assert "Traceback" not in done.stderr
        return line, [run for run_id, run in self.runs().items() if run_id not in before]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    found = people_workspace(tmp_path_factory.mktemp("grid") / "home")
    (found.home.parent / "junk.pt").write_text("no weights\n")
    return Home(found)


@pytest.fixture(scope="module")
def printed(home: Home) -> dict[str, Any]:
    """What `grid --json` printed of a grid in which one combination names a file that is not there."""
    done = home.give(*GRID, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_object_has_every_run_the_verdict_and_the_staged_version(home: Home, printed: dict[str, Any]) -> None:
    good, bad = printed["runs"]
    assert (good["status"], bad["status"], printed["trained"]) == ("finished", "failed", 1)
    for name in ("map50", "precision", "recall"):
        assert 0 <= good["intervals"][name]["low"] <= good[name] <= good["intervals"][name]["high"] <= 1
        assert bad[name] is None
    assert (good["config"]["epochs"], good["config"]["imgsz"]) == (1, 64)
    assert printed["best"] == printed["model"]["run_id"] == good["id"]
    assert printed["staging"]["version"] == home.workspace.registry.alias("person_yolo", "staging") == 1
    assert printed["verdict"]["outcome"] in ("promote", "reject", "inconclusive")
    assert home.workspace.ledger.history("person_yolo")[-1].verdict is not None
    assert home.workspace.ledger.champion("person_yolo") == printed["champion"]["version"]


@pytest.mark.slow
def test_a_combination_that_cannot_be_trained_is_a_failed_row_and_a_failed_mlflow_run(
    home: Home, printed: dict[str, Any]
) -> None:
    """It fails before it would have opened its run; it has one all the same, below the parent."""
    good, bad = printed["runs"]
    runs = home.runs()
    assert bad["reason"].startswith("There are no pretrained weights at nowhere.pt")
    assert {runs[run["id"]].data.tags[PARENT_TAG] for run in (good, bad)} == {printed["parent"]}
    assert (runs[bad["id"]].info.status, runs[bad["id"]].data.tags[FAILURE_TAG]) == ("FAILED", bad["reason"])
    assert (runs[good["id"]].info.status, runs[printed["parent"]].info.status) == ("FINISHED", "FINISHED")


@pytest.mark.slow
def test_the_table_is_in_artifacts_dir_and_on_the_parent_with_a_column_for_what_varies(
    home: Home, printed: dict[str, Any]
) -> None:
    table = (home.workspace.artifacts / FILE).read_text()
    assert home.workspace.tracking.read_files(printed["parent"], "")[FILE].decode() == table
    assert "| ID | Epochs | Imgsz | pretrained | mAP@50 | Precision | Recall | Status |" in table
    assert f"- {printed['runs'][1]['id'][:8]} failed: There are no pretrained weights at nowhere.pt" in table


@pytest.mark.slow
def test_a_person_is_shown_the_table_the_reasons_and_what_to_do_next(
    printed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_experiment(Experiment.model_validate(printed))
    out, err = capsys.readouterr()
    heads, *rows = [line.split("\t") for line in out.splitlines()]
    assert heads == ["ID", "Epochs", "Imgsz", "pretrained", "mAP@50", "Precision", "Recall", "Status"]
    assert [row[-1] for row in rows] == ["finished, staging", "failed"]
    assert "- failed: There are no pretrained weights at nowhere.pt" in err
    assert "openmlops evaluate person_yolo@staging" in err


@pytest.mark.slow
def test_given_again_the_failed_combination_alone_is_tried_again(
    home: Home, printed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", other_process("exit 7", tmp_path))
    with inside(home.workspace):
        found = train_all(home.workspace, splits_of(home.workspace), grid_of(home.workspace, AXES, {}, 2))
    good, bad = found.runs
    assert (found.trained, found.parent, good.run_id) == (0, printed["parent"], printed["runs"][0]["id"])
    assert bad.reason == "its process ended with exit code 7"


@pytest.mark.slow
def test_of_two_processes_with_the_very_same_grid_one_is_refused_in_one_line_and_the_other_ends_well(
    home: Home, printed: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: home.give(*GRID, "--seed", "4", "--json"), range(2)))
    well, refused = sorted(both, key=lambda done: done.returncode)
    assert (well.returncode, refused.returncode, refused.stdout) == (0, 1, "")
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("error: Another process is running this grid")
    assert [run["status"] for run in json.loads(well.stdout)["runs"]] == ["finished", "failed"]


@pytest.mark.slow
def test_a_grid_of_which_no_run_ends_well_is_one_line_with_the_reason_and_exit_code_1(
    home: Home, printed: dict[str, Any]
) -> None:
    entries = home.workspace.ledger.history("person_yolo")
    words = ("grid", "--use-case", "person", "--epochs", "1", "--imgsz", "64", "--set", "pretrained=junk.pt", "--json")
    line, opened = home.failed_with(*words)
    assert "All 1 runs of the grid failed; the first: junk.pt is not a YOLO checkpoint" in line
    assert len(opened) == 2
    for run in opened:
        assert run.info.status == "FAILED"
        assert "junk.pt is not a YOLO checkpoint" in run.data.tags[FAILURE_TAG]
    assert home.workspace.ledger.history("person_yolo") == entries


@pytest.mark.slow
def test_a_trainer_that_raises_fails_the_baseline_pipeline_and_the_command(home: Home, printed: dict[str, Any]) -> None:
    """Defect 7, of the training in the pipeline's own process."""
    versions = home.workspace.registry.versions("person_yolo")
    words = ("train", "--use-case", "person", "--epochs", "1", "--imgsz", "64", "--seed", "5", "--pretrained", "junk.pt")
    line, (run,) = home.failed_with(*words, "--json")
    assert "junk.pt is not a YOLO checkpoint" in line
    assert run.info.status == "FAILED"
    assert "junk.pt is not a YOLO checkpoint" in run.data.tags[FAILURE_TAG]
    assert home.workspace.registry.versions("person_yolo") == versions


@pytest.mark.slow
def test_nothing_is_written_into_the_users_home(home: Home, printed: dict[str, Any]) -> None:
    user = home.workspace.home.parent / "user"
    written = {path.relative_to(user).parts[0] for path in user.rglob("*") if path.is_file()}
    assert written <= {".cache"}


@pytest.fixture
def say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Give a command in an empty folder, in this process: its exit code and what it printed."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("USE_CASE", "person")
    monkeypatch.chdir(tmp_path)
    ends = signal.getsignal(signal.SIGTERM)

    def give(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["openmlops", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    yield give
    signal.signal(signal.SIGTERM, ends)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "nonsense=1"), "nonsense cannot be 1: extra inputs are not permitted"),
        (("--set", "nonsense=1,2"), "nonsense cannot be 1"),
        (("--imgsz", "64,100"), "imgsz cannot be 100: input should be a multiple of 32"),
        (("--imgsz", "large"), "imgsz cannot be 'large'"),
        (("--epochs", "0"), "epochs cannot be 0"),
        (("--epochs", "1.5"), "epochs cannot be 1.5"),
        (("--epochs", "2,3,2"), "'2,3,2' repeats a value"),
        (("--epochs", "2,2.0"), "'2,2.0' repeats a value"),
        (("--epochs", "2,"), "'2,' has an empty value"),
        (("--epochs", ""), "An argument of 'openmlops grid --epochs ''' is empty"),
        (("--set", "lr"), "'lr' is not an assignment"),
        (("--set", "=0.1"), "'=0.1' is not an assignment"),
        (("--set", "lr="), "'lr=' is not an assignment"),
        (("--lr", "0.1", "--set", "lr=0.2"), "lr is given twice"),
        (("--set", "lr=0.1", "--set", "lr=0.2"), "lr is given twice"),
        (("--epochs", "2", "--set", "budget=60"), "set epochs or budget, not both"),
        (("--lr", "nan"), "lr cannot be nan"),
        (("--jobs", "0"), "--jobs"),
        (("--jobs", "many"), "--jobs"),
        (("--nonsense", "1"), "--nonsense"),
        (("--use-case", "cifar10", "--lr", "0.1"), "No setting has more than one value"),
        (("--use-case", "nobody"), "nobody"),
    ],
)
def test_a_mistake_gets_one_line_and_an_exit_code(say_it, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, out, err = say_it("grid", *words)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2 if said.startswith(("--", "An argument")) else 1, "")
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_told_before_zenml_is_imported() -> None:
    """ZenML keeps its state where it finds it when it is imported: in the user's home, if nobody has said otherwise."""
    code = """
import sys
sys.argv = ["openmlops", "grid", "--use-case", "person", "--lr", "7"]
from openmlops.cli import main
try:
    main()
finally:
    print("zenml" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment(), check=False)
    assert (found.returncode, found.stdout.strip()) == (1, "False"), found.stderr
    assert "lr cannot be 7" in found.stderr


def test_a_grid_of_nothing_is_the_default_one_of_a_detector_and_refused_for_a_classifier(home: Home) -> None:
    assert grid_of(home.workspace, {}, {}, 1).axes.keys() == {"epochs", "imgsz"}
    with pytest.raises(SettingsError, match="No setting has more than one value"):
        grid_of(Workspace(home.workspace.settings.model_copy(update={"use_case": "cifar10"})), {}, {"lr": 0.1}, 1)


def test_ctrl_c_in_any_command_is_told_and_its_exit_code_is_130(say_it, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("openmlops.operations.training.search.search_of", interrupted)
    code, out, err = say_it("search")
    assert (code, out) == (130, "")
    assert err == "Interrupted; the same command resumes.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "nonsense=1"), "nonsense cannot be 1"),
        (("--set", "lr=3..1"), "'3..1' is not a range"),
        (("--set", "lr=0.1..7"), "lr cannot be 7"),
        (("--set", "imgsz=64,100"), "imgsz cannot be 100"),
        (("--budget", "soon"), "'soon' is not a duration"),
        (("--trials", "0"), "--trials"),
    ],
)
def test_a_mistake_in_a_search_gets_one_line_and_a_code(say_it, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, out, err = say_it("search", *words)
    (line,) = err.strip().splitlines()
    assert (code, out) == (2 if said.startswith(("--", "An argument")) else 1, "")
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.iterdir())
