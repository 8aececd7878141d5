"""Whatever is in folders, `.env` files, variables and arguments: a command succeeds, or says one line with what to do."""

import itertools
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import odd_inputs as odd
from unprivileged import User, removable, user

SHORT = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=int(os.environ.get("ODD", 150)), derandomize=False, phases=(Phase.generate, Phase.shrink))
Faults = list[tuple[int, tuple[str, bytes | int | None]]]
DATA = {"classification": odd.classes, "detection": odd.boxes}
READING = (("settings",), ("data", "check"), ("data", "status"), ("doctor",))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user."""
    with user(tmp_path_factory.mktemp("user") / "log") as found:
        yield found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Makes empty folders, which are removed even if their modes are odd."""
    numbers = itertools.count()

    def empty() -> Path:
        if os.path.lexists(before := tmp_path / f"{next(numbers) - 1}"):
            removable(before)
            shutil.rmtree(os.fsencode(before))
        made = tmp_path / f"{next(numbers)}"
        made.mkdir()
        return made

    yield empty
    removable(tmp_path)


def forms_of(values: Iterable[str]) -> list[str]:
    """All forms in which a message may show one of these values."""
    return [form for value in values for form in odd.forms(value)]


def spoiled_data(one: User, place: Path, kind: str, faults: Faults) -> None:
    """`init` with a folder with these faults."""
    data = DATA[kind](place / "own")
    told = [name for number, (fault, value) in faults for name in odd.spoil(data, number, fault, value)]
    one.run(place, ("init", "odds", "--kind", kind, "--data", "own")).require_clear(*forms_of(told))


@SHORT
@given(st.sampled_from(sorted(DATA)), odd.faults)
@example(kind="classification", faults=[(0, ("mode", 0o000))])
@example(kind="classification", faults=[(0, ("mode", 0o444))])
@example(kind="detection", faults=[(1, ("mode", 0o000))])
@example(kind="detection", faults=[(2, ("mode", 0o444))])
@example(kind="classification", faults=[(57, ("link", b"x" * 300))])
@example(kind="detection", faults=[(57, ("link", b"x" * 300))])
@example(kind="classification", faults=[(57, ("pipe", None))])
def test_a_project_of_any_folder(one: User, place: Callable[[], Path], kind: str, faults: Faults) -> None:
    spoiled_data(one, place(), kind, faults)


@pytest.mark.slow
@LONG
@given(st.sampled_from(sorted(DATA)), odd.faults)
def test_a_project_of_any_folder_at_length(one: User, place: Callable[[], Path], kind: str, faults: Faults) -> None:
    spoiled_data(one, place(), kind, faults)


VERSION = (("data", "check"), ("data", "status"), ("data", "add", "../more"), ("data", "pull"), ("doctor",), ("settings",))
_made: dict[str, Path] = {}


def spoiled_version(one: User, place: Path, kind: str, faults: Faults, words: tuple[str, ...]) -> None:
    """A command in a project with these faults; `data add` of a folder with these faults into one without."""
    if kind not in _made:
        made = place.with_name(f"made-{kind}")
        shutil.rmtree(made, ignore_errors=True)
        DATA[kind](made / "own")
        done = one.run(made, ("init", "odds", "--kind", kind, "--data", "own"))
        assert done.code == 0, done
        _made[kind] = made
    shutil.copytree(_made[kind] / "odds", place / "odds", symlinks=True)
    shutil.copytree(place / "odds" / "data" / "raw" / "odds", place / "more")
    changed = place / ("more" if words[1:2] == ("add",) else "odds")
    told = [name for number, (fault, value) in faults for name in odd.spoil(changed, number, fault, value)]
    told.append("data/raw")  # what is missed where `.env` is gone, which nothing else names
    if (place / "odds").is_dir() and os.access(place / "odds", os.X_OK):
        one.run(place / "odds", words).require_clear(*forms_of(told))


@SHORT
@given(st.sampled_from(sorted(DATA)), odd.faults, st.sampled_from(VERSION))
def test_any_version(one: User, place: Callable[[], Path], kind: str, faults: Faults, words: tuple[str, ...]) -> None:
    spoiled_version(one, place(), kind, faults, words)


@pytest.mark.slow
@LONG
@given(st.sampled_from(sorted(DATA)), odd.faults, st.sampled_from(VERSION))
def test_any_version_at_length(one: User, place: Callable[[], Path], kind: str, faults: Faults, words: tuple[str, ...]) -> None:
    spoiled_version(one, place(), kind, faults, words)


def odd_texts(one: User, place: Path, config: bytes, labels: bytes) -> None:
    """`init` with these bytes as data.yaml and as one label file."""
    data = odd.boxes(place / "own")
    (data / "data.yaml").write_bytes(config)
    (data / "labels" / "3.txt").write_bytes(labels)
    texts = re.findall(r"[\w./~]{3,}", config.decode("utf-8", "replace"))
    told = ("data.yaml", "3.txt", *texts)
    one.run(place, ("init", "odds", "--kind", "detection", "--data", "own")).require_clear(*forms_of(told))


@SHORT
@given(odd.yaml, odd.labels)
def test_a_project_of_any_yaml_and_labels(one: User, place: Callable[[], Path], config: bytes, labels: bytes) -> None:
    odd_texts(one, place(), config, labels)


@pytest.mark.slow
@LONG
@given(odd.yaml, odd.labels)
def test_a_project_of_any_yaml_and_labels_at_length(one: User, place: Callable[[], Path], config: bytes, labels: bytes) -> None:
    odd_texts(one, place(), config, labels)


def odd_variables(one: User, place: Path, dotenv: bytes, variables: dict[str, str], words: tuple[str, ...]) -> None:
    """A command with these bytes as `.env` and these variables."""
    (place / ".env").write_bytes(dotenv)
    found = re.findall(r"[A-Z_]{2,}|(?<=[=#' ])[^=#' \n]{2,}", dotenv.decode("utf-8", "replace"))
    told = (".env", *found, *variables, *variables.values())
    done = one.run(place, words, variables)
    if done.err.replace(str(place), "") != without_odds(one, words):  # what it says for lack of data or a model is not of them
        done.require_clear(*forms_of(told))


@cache
def without_odds(one: User, words: tuple[str, ...]) -> str:
    """What a command says in an empty folder, without the folder's path."""
    with TemporaryDirectory() as place:
        return one.run(Path(place), words).err.replace(place, "")


@SHORT
@given(odd.dotenv, odd.variables, st.sampled_from(READING))
def test_any_variables(
    one: User, place: Callable[[], Path], dotenv: bytes, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    odd_variables(one, place(), dotenv, variables, words)


@pytest.mark.parametrize(
    ("dotenv", "variables", "told"),
    [
        (b"A$ B", {}, "/.env is not readable from line 1 on. Write NAME=value there"),
        (b"USE_CASE=person\nAPI_TOKEN='open\n", {}, "/.env is not readable from line 2 on. Write NAME=value there"),
        (b"", {"OPENMLOPS_HOME": ".env"}, "/.env"),
    ],
)
@pytest.mark.parametrize("words", [("history", "m"), ("data", "sample")])
def test_what_is_wrong_in_a_dotenv_file_is_told_by_file_and_line(
    one: User, place: Callable[[], Path], dotenv: bytes, variables: dict[str, str], told: str, words: tuple[str, ...]
) -> None:
    made = place()
    (made / ".env").write_bytes(dotenv)
    done = one.run(made, words, variables)
    assert done.code == 1
    done.require_clear(f"{made}{told}")


@pytest.mark.parametrize("words", [("data", "add", ""), ("demo", ""), ("init", "odds", "--kind", "detection", "--data=")])
def test_an_empty_argument_is_not_the_current_folder(one: User, place: Callable[[], Path], words: tuple[str, ...]) -> None:
    """As a variable of the shell makes it that is not set."""
    (made := place()).joinpath("kept").touch()
    done = one.run(made, words)
    assert (done.code, [path.name for path in made.iterdir()]) == (2, ["kept"])
    done.require_clear(f"An argument of 'openmlops {shlex.join(words)}' is empty. Give a value")


@pytest.mark.parametrize(
    ("text", "said"),
    [("USE_CASE = (", "SyntaxError: '(' was never closed"), ("\nUSE_CASE = image_folder()", "NameError: name 'image_folder'")],
)
def test_a_fault_of_the_projects_own_module_is_told_with_its_line(
    one: User, place: Callable[[], Path], text: str, said: str
) -> None:
    (made := place()).joinpath("odds.py").write_text(text)
    done = one.run(made, ("data", "check"), {"USE_CASE": "odds:USE_CASE"})
    assert done.code == 1
    done.require_clear(said)
    assert f"odds.py, line {1 + text.count(chr(10))})" in done.err


def test_a_long_argument_leaves_room_for_what_to_do(one: User, place: Callable[[], Path]) -> None:
    one.run(place(), ("init", "odds", "x" * 5000)).require_clear("x" * 60)


@pytest.mark.slow
@LONG
@given(odd.dotenv, odd.variables, st.sampled_from((*READING, ("history", "m"))))
def test_any_variables_at_length(
    one: User, place: Callable[[], Path], dotenv: bytes, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    odd_variables(one, place(), dotenv, variables, words)


COMMANDS = (
    *(("init",), ("init", "odds", "--kind"), ("init", "odds", "--kind", "detection", "--data"), ("init", "--stack", "compose")),
    *(("data", "add"), ("data", "check"), ("data", "status"), ("settings",), ("doctor",), ("history",), ("data", "pull")),
)
arguments = st.lists(st.sampled_from(("--json", "--help", "--kind", "--data", "--stack")) | odd.text, max_size=3)


def odd_arguments(one: User, place: Path, words: tuple[str, ...], more: list[str]) -> None:
    """A command with these arguments, one of which its line must hold, or an option or a word that it lacks."""
    options = ("PROJECT", "--kind", "--data", "MODEL", "FOLDER", "'folder'")
    lacking = (*options, "no data set", "No version", "no manifest", "no `.dvc`", "deploy/compose.yml")
    one.run(place, (*words, *more)).require_clear(*forms_of((*more, *lacking)))


@SHORT
@given(st.sampled_from(COMMANDS), arguments)
def test_any_arguments(one: User, place: Callable[[], Path], words: tuple[str, ...], more: list[str]) -> None:
    odd_arguments(one, place(), words, more)


@pytest.mark.slow
@LONG
@given(st.sampled_from(COMMANDS), arguments)
def test_any_arguments_at_length(one: User, place: Callable[[], Path], words: tuple[str, ...], more: list[str]) -> None:
    odd_arguments(one, place(), words, more)
