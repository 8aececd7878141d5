"""`openmlops init PROJECT`: what it makes, what it refuses in one line, and that nothing is left of what cannot be made."""

import os
import shutil
import subprocess
import sys
from contextlib import chdir, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openmlops.cli import app
from openmlops.errors import DataInvalid, OpenMLOpsError, SettingsError
from openmlops.operations.projects.create import create, module_name
from openmlops.operations.projects.templates import texts
from openmlops.operations.simulation.traffic import stream_of_folder
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from openmlops.usecases.base import UseCase
from shapes import folders
from usecases.yolo_folder.test_yolo_arrange import write


def refused(*words: str) -> str:
    """What the command says when it refuses."""
    error = CliRunner().invoke(app, ["init", *words]).exception
    assert isinstance(error, OpenMLOpsError), error
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "A project requires PROJECT and --kind and --data. Write it as openmlops init my-project"),
        (["mine"], "A project requires --kind and --data."),
        (["mine", "--kind", "detection"], "A project requires --data."),
        (["--data", "."], "A project requires PROJECT and --kind."),
        (["mine", "--stack", "compose"], "--stack creates no project, and PROJECT is for a project. Run two commands"),
        (["--stack", "compose", "--kind", "detection", "--data", "."], "and --kind and --data are for a project."),
        (["--stack", "compose", "--strict"], "and --strict is for a project."),
        (
            ["--on-left-out", "stop", "--on-bad-label", "skip", "--stack", "compose"],
            "and --on-bad-label and --on-left-out are for",
        ),
        (["mine", "--kind", "detection", "--data", "/nowhere/at/all"], "There is no folder /nowhere/at/all."),
    ],
)
def test_what_does_not_go_together_is_one_line_with_what_would_be_right(words: list[str], said: str) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize("name", ["2cats", "my project", "class", "my.cats", "ä", "-x", "a" * 51])
def test_a_name_that_no_module_can_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a valid project name\. Use up to 50 letters"):
        module_name(name)


@pytest.mark.parametrize("name", ["numpy", "json", "openmlops", "torch"])
def test_a_name_that_hides_a_module_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"Python has a module of this name. Choose another name, such as my-{name}"):
        module_name(name)


def test_a_name_with_dashes_is_a_module_with_underscores() -> None:
    assert module_name("my-cats_2") == "my_cats_2"


def test_a_folder_that_is_not_empty_or_lies_inside_the_data_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    own = folders(tmp_path / "own", 1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    for place, said in (
        (tmp_path / "taken", "already exists and is not empty"),
        (own / "mine", "is inside the data"),
        (tmp_path, "is inside the data"),
        (own, "is inside the data"),
    ):
        with pytest.raises(SettingsError, match=said):
            create(place, "classification", own)
    assert (tmp_path / "taken" / "mine.txt").read_text() == "mine"
    assert not (own / "mine").exists()


def test_bad_data_leaves_nothing_behind(tmp_path: Path) -> None:
    own = folders(tmp_path / "own", 4)
    (tmp_path / "empty").mkdir()
    for place in ("empty", "mine"):
        with pytest.raises(DataInvalid, match="too few images of disc") as raised:
            create(tmp_path / place, "classification", own)
        assert len(raised.value.problems) == 1
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "mine").exists()


def test_a_name_can_be_used_again_in_the_process_in_which_it_failed(tmp_path: Path) -> None:
    """The module of the project was imported before its data was refused."""
    write(tmp_path / "own/images", tmp_path / "own/labels", 12)
    (tmp_path / "own/classes.txt").write_text("cat\ndog\n")
    label = tmp_path / "own/labels/003.txt"
    label.write_text("7 0.5 0.5 0.1 0.1\n")
    before = list(sys.path)
    for place in ("here", "there"):
        with pytest.raises(DataInvalid, match="the class 7"):
            create(tmp_path / place / "retried", "detection", tmp_path / "own")
    assert sys.path == before
    assert "retried" not in sys.modules
    label.write_text("1 0.5 0.5 0.1 0.1\n")
    assert create(tmp_path / "here" / "retried", "detection", tmp_path / "own").name == "retried"


def test_a_bad_label_line_stops_or_is_left_out_by_name_and_strict_refuses_polygons(tmp_path: Path) -> None:
    write(tmp_path / "own/images", tmp_path / "own/labels", 12)
    (tmp_path / "own/classes.txt").write_text("cat\ndog\n")
    for name, line in (("003", "7 0.5 0.5 0.1 0.1"), ("004", "0 0.1 0.1 0.3 0.1 0.3 0.3")):
        with (tmp_path / f"own/labels/{name}.txt").open("a") as opened:
            opened.write(f"{line}\n")
    words = ["--kind", "detection", "--data", str(tmp_path / "own")]
    said = refused(str(tmp_path / "stopped"), *words)
    assert f"{tmp_path}/own/labels/003.txt: the class 7 is not one of 0..1" in said
    assert "nothing was created; --on-bad-label skip leaves out label lines that cannot be used." in said
    said = refused(str(tmp_path / "strict"), *words, "--on-bad-label", "skip", "--strict")
    assert f"{tmp_path}/own/labels/004.txt: polygons are read as the boxes around them" in said
    assert "--on-bad-label" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]

    made = CliRunner().invoke(app, ["init", str(tmp_path / "skipped"), *words, "--on-bad-label", "skip"])
    assert made.exit_code == 0, made.exception
    for left_out in ("003.txt: left out, because the class 7 is not one of 0..1", "004.txt: polygons are read as the boxes"):
        assert left_out in made.output
    assert len((tmp_path / "own/labels/003.txt").read_text().splitlines()) == 2

    more = shutil.copytree(tmp_path / "skipped/data/raw/skipped", tmp_path / "more")
    label = more / "labels/train" / sorted(path.name for path in (more / "labels/train").iterdir())[0]
    label.write_text(f"{label.read_text()}9 0.5 0.5 0.1 0.1\n")
    with chdir(tmp_path / "skipped"):
        stopped = CliRunner().invoke(app, ["data", "add", str(more)]).exception
        added = CliRunner().invoke(app, ["data", "add", str(more), "--on-bad-label", "skip"])
    assert "the class 9 is not one of 0..1" in str(stopped)
    assert "--on-bad-label skip leaves out label lines that cannot be used" in str(stopped)
    assert f"labels/train/{label.name}: left out, because the class 9 is not one of 0..1" in added.output
    kept = (tmp_path / "skipped/data/raw/skipped/labels/train" / label.name).read_text().splitlines()
    assert kept[-1] == "# left out, because the class 9 is not one of 0..1: 9 0.5 0.5 0.1 0.1"


def test_names_with_quotes_and_line_ends_stay_names() -> None:
    classes = ('six "inch" nail', "l'été", "back\\slash")
    text = texts("mine", "classification", classes, 32)["mine.py"]
    found: dict[str, object] = {}
    exec(compile(text.replace("class Training", "Given = " + repr(classes) + "\n\n\nclass Training"), "mine.py", "exec"), found)
    made = found["USE_CASE"]
    assert isinstance(made, UseCase)
    assert made.check(Path("/nowhere"))[1] == dict.fromkeys(classes, 0)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that finds two kinds of things; made as a user's command makes it."""
    place = tmp_path_factory.mktemp("pets")
    write(place / "own" / "images", place / "own" / "labels", 20)
    (place / "own" / "classes.txt").write_text("cat\ndog\n")
    made = create(place / "my-pets", "detection", place / "own")
    assert (made.name, made.classes, made.train + made.validation + made.test) == ("my_pets", ("cat", "dog"), 20)
    assert any("fewer than 100: `openmlops monitor` cannot detect drift" in note for note in made.notes)
    return place / "my-pets"


def test_a_project_holds_little_and_git_tracks_what_says_which_images_there_were(pets: Path) -> None:
    assert {path.name for path in pets.iterdir()} <= {
        *(".dvc", ".dvcignore", ".env", ".git", ".gitignore", ".openmlops", "README.md", "__pycache__", "data", "my_pets.py"),
    }
    untracked = subprocess.run(
        ["git", "-C", pets, "status", "--porcelain", "--untracked-files=all"], capture_output=True, text=True, check=True
    )
    names = {line[3:] for line in untracked.stdout.splitlines()}
    assert {"README.md", "my_pets.py", "data/raw/my_pets.dvc", "data/raw/my_pets.manifest.json"} <= names
    assert not any(".openmlops" in name or name.endswith(".png") or name == ".env" for name in names)


def test_the_server_can_load_a_project_without_torch(pets: Path) -> None:
    code = (
        "import sys; from openmlops.operations.workspace import Workspace; found = Workspace.open().use_case;"
        "print(found.name, [name for name in ('torch', 'zenml', 'ultralytics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=pets, capture_output=True, text=True)
    assert done.stdout.strip() == "my_pets []", done.stderr


def test_a_detector_of_ones_own_classes_is_trained_and_answers(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch at 32 pixels: enough to see that two classes go through the network and come out named."""
    if find_spec("ultralytics") is None:
        pytest.skip("training a detector needs the extra `yolo`")
    from openmlops.learning.export import Eager
    from openmlops.operations.release import inference

    monkeypatch.chdir(pets)
    use_case = Workspace(Settings.load({}, pets / ".env")).use_case
    assert use_case.name == "my_pets"
    rows = use_case.read(pets / "data" / "raw" / "my_pets")
    splits = use_case.split(rows, 0)
    config = use_case.config(epochs=1, imgsz=32, threads=1, pretrained="none")
    model = use_case.build(config, use_case.preprocess(rows, splits["train"]), rows, splits["train"])
    use_case.fit(model, rows, splits, config, folder=pets / "fit", key="k", on_epoch=lambda metrics: None)
    predictions = inference.predict(use_case, Eager(use_case.served(model), use_case.task.outputs), rows.images[splits["test"]])
    assert rows.names == ("cat", "dog")
    assert len(predictions) == len(splits["test"])
    assert set(np.concatenate(list(predictions))[:, 5].tolist()) <= {0.0, 1.0}


def spoiled(place: Path, number: int) -> Path:
    """`number` images of each class, and three files that cannot be used."""
    own = folders(place, number)
    (own / "disc" / "0000.png").write_bytes(b"no image")
    (own / "square" / "photo.avif").write_bytes(b"")
    (own / "triangle" / "copy of 1.png").write_bytes((own / "disc" / "0001.png").read_bytes())
    (own / "README.txt").write_text("x")
    return own


def told(*words: str) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 0, done.exception
    return done.output


def test_init_add_check_and_traffic_end_with_an_account_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, place = spoiled(tmp_path / "own", 80), tmp_path / "mine"
    (place / ".git").mkdir(parents=True)
    words = ["init", str(place), "--kind", "classification", "--data", str(own)]
    with pytest.raises(DataInvalid, match=r"photo\.avif"):
        raise CliRunner().invoke(app, [*words, "--strict"]).exception or AssertionError
    assert [path.name for path in place.iterdir()] == [".git"]

    said = told(*words)
    assert "238 images used, 4 left out, 1 other files not read" in said
    for name in ("disc/0000.png", "square/photo.avif", "disc/0001.png", "triangle/copy of 1.png", "README.txt"):
        assert f"{own}/{name}" in said

    monkeypatch.chdir(place)
    raw = place / "data/raw/mine"
    (raw / "train/disc/new.png").write_bytes(b"no image")
    checked = CliRunner().invoke(app, ["data", "check"]).output
    assert "238 images used, 1 left out\n- train/disc/new.png: The image is none of" in checked
    with pytest.raises(DataInvalid):
        raise CliRunner().invoke(app, ["data", "add", str(raw), "--strict"]).exception or AssertionError
    assert (raw / "train/disc/new.png").is_file()
    said = told("data", "add", str(raw))
    assert f"The files left out are now in {place}/.openmlops/left-out/mine" in said
    assert (place / ".openmlops/left-out/mine/train/disc/new.png").read_bytes() == b"no image"
    assert "238 images used" in told("data", "check")

    workspace = Workspace(Settings.load({}, place / ".env"))
    account = stream_of_folder(workspace, own).account
    assert account is not None
    assert (account.used, account.left_out, account.ignored) == (240, 2, 1)
    with pytest.raises(DataInvalid, match="without --strict a handful of files may be left out") as raised:
        stream_of_folder(workspace, own, strict=True)
    assert "--on-left-out" not in str(raised.value)


def test_more_than_a_handful_stops_init_and_the_option_goes_on(tmp_path: Path) -> None:
    own, place = spoiled(tmp_path / "own", 8), tmp_path / "skipping"
    words = [str(place), "--kind", "classification", "--data", str(own)]
    said = refused(*words)
    assert "photo.avif" in said
    assert "nothing was created; --on-left-out skip goes on without the files that cannot be used." in said
    strict = refused(*words, "--strict")
    assert "--on-left-out" not in strict
    assert "; without --strict a handful of files may be left out" in strict
    assert "--strict refuses what --on-left-out skip leaves out" in refused(*words, "--on-left-out", "skip", "--strict")
    assert not place.exists()
    assert "22 images used, 4 left out" in told("init", *words, "--on-left-out", "skip")


AS_NAME = str.maketrans("/.", "__")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["images/0.png", "labels/0.txt", "data.yaml", "classes.txt", "notes", "more.yaml"])
def test_a_pipe_among_the_data_is_never_waited_for(name: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(own / "images", own / "labels", 60)
    (own / "classes.txt").write_text("cat\ndog\n")
    (own / name).unlink(missing_ok=True)
    os.mkfifo(own / name)
    with suppress(DataInvalid):
        create(tmp_path / f"with_{name.translate(AS_NAME)}", "detection", own, skip=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["disc/0000.png", "disc/notes", "notes.txt"])
def test_a_pipe_among_the_pictures_is_left_out(name: str, tmp_path: Path) -> None:
    own = folders(tmp_path / "own", 60)
    (own / name).unlink(missing_ok=True)
    os.mkfifo(own / name)
    made = create(tmp_path / f"pictures_{name.translate(AS_NAME)}", "classification", own)
    assert str(own / name) in "".join(made.account.reasons)
