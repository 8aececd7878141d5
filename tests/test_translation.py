"""README.fr.md says what README.md says: the same commands, figures, tables and links, told line by line where they differ."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH, FRENCH = ((ROOT / name).read_text() for name in ("README.md", "README.fr.md"))
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def differences(english: list[str], french: list[str]) -> list[str]:
    """Where two lists are not the same, one line each."""
    longest = max(len(english), len(french))
    padded = [found + ["(nothing)"] * (longest - len(found)) for found in (english, french)]
    return [
        f"{i}: {one!r} is {other!r} in French" for i, (one, other) in enumerate(zip(*padded, strict=True), 1) if one != other
    ]


def commands(text: str) -> list[str]:
    """The lines of code, without what a comment says of them; what a comment tells to type stays."""
    lines = [line for language, block in BLOCK.findall(text) if language != "mermaid" for line in block.splitlines()]
    return [_typed(line) for line in lines]


def _typed(line: str) -> str:
    before, mark, comment = line.partition("#")
    told = re.findall(r"(?:openmlops|curl|--[\w-]+)(?:[^;(),]|,(?=\d))*", comment) if mark else []
    return " ; ".join([before.strip(), *(found.strip() for found in told)])


def boxes(text: str) -> list[str]:
    """The diagram without its words."""
    found = re.search(r"```mermaid\n(.*?)```", text, re.DOTALL)
    return re.sub(r'"[^"]*"', '""', found[1] if found else "").splitlines()


def rows(text: str) -> list[str]:
    """Of each row of a table what must not be translated: code and numbers."""
    return [" ".join(re.findall(rf"`[^`]+`|{NUMBER.pattern}", line)) for line in text.splitlines() if line.startswith("|")]


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def test_the_commands_are_the_same() -> None:
    assert differences(commands(ENGLISH), commands(FRENCH)) == []


def test_the_diagrams_have_the_same_boxes_and_arrows() -> None:
    assert len(boxes(ENGLISH)) > 10
    assert differences(boxes(ENGLISH), boxes(FRENCH)) == []


def test_the_tables_have_the_same_commands_and_numbers() -> None:
    assert len(rows(ENGLISH)) > 15
    assert differences(rows(ENGLISH), rows(FRENCH)) == []


def test_the_sections_are_the_same_in_number() -> None:
    levels = [re.findall(r"^(#+) ", prose(text), re.MULTILINE) for text in (ENGLISH, FRENCH)]
    assert differences(*levels) == []


def test_every_section_has_the_same_code_numbers_and_links() -> None:
    parts = [re.split(r"^#+ .*$", prose(text), flags=re.MULTILINE) for text in (ENGLISH, FRENCH)]
    for english, french in zip(*parts, strict=True):
        for pattern in (r"`[^`]+`", r"\]\((?!README)([^)]+)\)", NUMBER.pattern):
            found = [sorted(re.findall(pattern, text.replace("\n", " "))) for text in (english, french)]
            assert differences(*found) == []


def test_each_names_the_other_at_the_top() -> None:
    assert "[Français](README.fr.md)" in ENGLISH.split("\n## ")[0]
    assert "[English](README.md)" in FRENCH.split("\n## ")[0]


def test_a_difference_is_told() -> None:
    assert differences(["a", "b"], ["a", "c"]) == ["2: 'b' is 'c' in French"]
    assert differences(["a"], []) == ["1: 'a' is '(nothing)' in French"]
    assert _typed("openmlops serve  # then: openmlops monitor") != _typed("openmlops serve  # puis : openmlops watch")
