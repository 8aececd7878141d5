"""Names of people's classes and files: what may be in them, and which are the same."""

import unicodedata
from pathlib import Path

import pytest

from openmlops.errors import one_line
from openmlops.names import as_stored, composed, is_showable, position


@pytest.mark.parametrize(
    "name", ["été", "👨\u200d👩\u200d👧", "🏴\U000e0067\U000e0062\U000e007f", "می\u200cخواهم", "新\u3000规", "\ue000"]
)
def test_a_name_that_people_write_is_taken_and_told_as_it_is(name: str) -> None:
    assert is_showable(name)
    assert one_line(f"<{name}>") == f"<{name}>".replace("\u3000", " ")


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[31m", "\x85", "\u2028", "\ud800", "\u202ejpg.exe", "\u200b", "\ufeffa", "\uffff"]
)
def test_a_name_that_steers_hides_or_reorders_is_not(name: str) -> None:
    assert not is_showable(name)
    assert one_line(name).isprintable()


def test_a_name_is_found_however_its_accents_are_written() -> None:
    names = ("cafe\u0301", "the\u0301", "rue")
    assert [position(name, names) for name in ("caf\u00e9", "cafe\u0301", "rue", "cafe")] == [0, 0, 2, None]
    assert composed("cafe\u0301") == "caf\u00e9"


def test_a_path_is_found_however_each_name_on_it_is_spelled(tmp_path: Path) -> None:
    there = tmp_path / unicodedata.normalize("NFD", "données") / unicodedata.normalize("NFC", "été.png")
    there.parent.mkdir()
    there.touch()
    for parent in ("NFC", "NFD"):
        for name in ("NFC", "NFD"):
            told = tmp_path / unicodedata.normalize(parent, "données") / unicodedata.normalize(name, "été.png")
            assert as_stored(told) == there
    assert as_stored(tmp_path / "à côté") == tmp_path / "à côté"
