"""No file of a data folder is dropped silently: each that is not used has its reason, and more than a handful stops."""

from pathlib import Path

import pytest
from PIL import Image

from openmlops.core.images.decoding import NAMES
from openmlops.core.types import Account, Problem
from openmlops.usecases.leftovers import ABOVE, is_system, left_out, tolerated, unused


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    return path


def by_reason(folder: Path, used: set[Path]) -> dict[str, tuple[str, ...]]:
    found = unused(folder, used, lambda path: f"misplaced in {path.parent}", absolute=False)
    return {problem.what.partition(";")[0].partition(":")[0]: problem.files for problem in found}


def test_every_file_that_is_not_used_is_named_with_its_reason(tmp_path: Path) -> None:
    used = image(tmp_path / "cat" / "a.png")
    image(tmp_path / "cat" / "more" / "b.TIF")
    image(tmp_path / "cat" / "photo")
    image(tmp_path / "cat" / "c.png.bak")
    for name in ("cat/d.heif.avif", "README.md", "cat/Thumbs.db", "__MACOSX/cat/._a.png", ".git/config", "cat/no.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cat" / "gone.png").symlink_to("/nowhere/gone.png")
    found = by_reason(tmp_path, {used})
    assert found == {
        "misplaced in cat/more": ("cat/more/b.TIF",),
        "files hold images but have no image's suffix": ("cat/c.png.bak", "cat/photo"),
        f"pictures are in none of the formats {NAMES}": ("cat/d.heif.avif",),
        "files are not images": ("README.md", "cat/no.bin"),
        "hidden files and files of the system": (".git", "__MACOSX", "cat/Thumbs.db"),
        "the links lead to nothing": ("cat/gone.png",),
    }


def test_files_used_through_a_link_to_their_folder_are_used_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    for used in (folder / "cat" / "a.png", tmp_path / "elsewhere" / "a.png"):
        assert by_reason(folder, {used}) == {ABOVE: ("loop",)}


@pytest.mark.parametrize("name", ["__MACOSX", "thumbs.db", "Desktop.ini", ".DS_Store", "._a.png", ".git", "@eaDir"])
def test_files_of_the_system_are_known(name: str) -> None:
    assert is_system(Path(name))
    assert not is_system(Path("cat") / f"my {name}".replace(".", ""))


def blocks(problems: list[Problem]) -> list[bool]:
    return [problem.blocking for problem in problems]


def test_a_handful_is_tolerated_and_more_stops_unless_skipped() -> None:
    broken = [left_out("broken", "images", [f"{number}.png" for number in range(2)])]
    assert blocks(tolerated(broken, 98)) == [False]
    assert blocks(tolerated(broken, 97)) == [True]
    assert blocks(tolerated(broken, 97, skip=True)) == [False]
    assert blocks(tolerated([*broken, left_out("blank", "images", ["c.png"])], 98)) == [True, True]  # counted together
    other = Problem(what="no classes", where="data.yaml")
    ignored = left_out("not images", "files", [f"{number}.txt" for number in range(99)], ignored=True)
    assert blocks(tolerated([*broken, other, ignored], 98)) == [False, True, False]


def test_the_account_counts_images_and_names_five_of_each_reason() -> None:
    many = left_out("broken", "images", [f"{number}.png" for number in range(7)])
    pair = left_out("in two classes", "images", ["a.png", "a.txt"], ["a.png is b.png"])
    notes = left_out("not images", "files", ["README"], ignored=True)
    account = Account.of(90, [many, pair, notes, Problem(what="few", where="train", blocking=False)])
    assert (account.used, account.left_out, account.ignored) == (90, 8, 1)
    assert account.lines() == [
        "90 images used, 8 left out, 1 other files not read",
        "- images: broken: 0.png; 1.png; 2.png; 3.png; 4.png; ... (7 in all)",
        "- images: in two classes: a.png is b.png",
        "- README: not images",
    ]


def test_a_link_to_a_folder_above_is_told_and_not_followed(tmp_path: Path) -> None:
    """Through a link to `/`, everything on the machine would be looked at."""
    used = image(tmp_path / "cat" / "a.png")
    for name, target in (("all", "/"), ("up", "..")):
        (tmp_path / "cat" / name).symlink_to(target)
    found = unused(tmp_path, {used}, str, absolute=False)
    assert [(each.what.partition(":")[0], each.unused, each.files) for each in found] == [
        (ABOVE, "ignored", ("cat/all", "cat/up"))
    ]
