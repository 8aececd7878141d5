"""Options shared by commands, and parsing of option values."""

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openmlops.cli import completion
from openmlops.errors import SettingsError

if TYPE_CHECKING:
    from datetime import datetime


def _choose(name: str | None) -> str | None:
    if name:
        from openmlops.settings import choose_use_case

        choose_use_case(name)
    return name


def repeated(use_case: str | None) -> str:
    """The option to repeat in a suggested next command: ` --use-case person`, or empty."""
    return f" --use-case {use_case}" if use_case else ""


UseCaseName = Annotated[
    str | None,
    typer.Option(
        "--use-case",
        help="cifar10, person or package.module:USE_CASE. Default: USE_CASE.",
        callback=_choose,
        autocompletion=completion.use_cases,
    ),
]
Expect = Annotated[
    str | None,
    typer.Option(metavar="VERSION[@ROW]", help="The champion you saw: nothing is done if another version is champion now."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other field of the use case's TrainConfig; repeatable."),
]


class StopOrSkip(StrEnum):
    """What happens to data that cannot be used."""

    stop = "stop"
    skip = "skip"


OnBadLabel = Annotated[
    StopOrSkip,
    typer.Option(
        "--on-bad-label",
        help="stop: refuse label lines that cannot be used. skip: leave them out, and name them.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Also refuse what would not be used as it is written, such as polygons, read as boxes, or a file left out.",
    ),
]


OnLeftOut = Annotated[
    StopOrSkip,
    typer.Option(
        "--on-left-out",
        help="Images that cannot be used are left out if they are at most 2 %. If they are more, stop: refuse; skip: go on.",
    ),
]


class Grouping(StrEnum):
    """What tells which images belong together."""

    auto = "auto"
    folder = "folder"
    name_pattern = "name-pattern"
    time = "time"


GroupedBy = Annotated[
    Grouping,
    typer.Option(
        "--group-by",
        help="Which images are kept in one split, as frames of a scene: those of a folder, of a name but for the number at its "
        "end, or taken within a minute. auto: by folder and name, if they tell many scenes.",
    ),
]


def skips(on_left_out: StopOrSkip, strict: bool) -> bool:
    """Whether any file may be left out. Raises SettingsError with `strict`, which refuses every one."""
    if strict and on_left_out is StopOrSkip.skip:
        raise SettingsError("--strict refuses what --on-left-out skip leaves out", "Pass one of them")
    return on_left_out is StopOrSkip.skip


def seconds(text: str) -> float:
    """`60`, `60s`, `3m` or `1h` in seconds. Raises SettingsError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise SettingsError(f"'{text}' is not a duration", "Write it as 60s, 3m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def moment(option: str, text: str | None) -> "datetime | None":
    """An ISO date or time, of UTC unless it names a zone. Raises SettingsError."""
    if text is None:
        return None
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(
            f"{option} is '{text}', which is no date or time", "Write it as 2026-11-30 or 2026-11-30T08:00"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def assignments(texts: list[str] | None, taken: Collection[str] = ()) -> dict[str, str]:
    """`NAME=VALUE` -> value by name. Raises SettingsError, also for a duplicate name or one of `taken`."""
    from openmlops.core.types import SOUNDS_SECRET

    found: dict[str, str] = {}
    for text in texts or ():
        before, mark, value = text.partition("=")
        name = before.strip().replace("-", "_")
        if not (name and mark and value):
            raise SettingsError(f"'{text}' is not an assignment", "Write it as --set NAME=VALUE, such as --set lr=0.001")
        if SOUNDS_SECRET.search(name):
            remedy = "Remove it: training parameters are recorded in many places. Read secrets from the environment"
            raise SettingsError(f"{name} looks like a secret", remedy)
        if name in found or name in taken:
            raise SettingsError(f"{name} is given twice", "Pass it once")
        found[name] = value
    return found


def values(text: str) -> tuple[Any, ...]:
    """`3,5` -> (3, 5), with numbers parsed. Raises SettingsError for an empty or duplicate value."""
    parts = [_value(part.strip()) for part in text.split(",")]
    if "" in parts:
        raise SettingsError(f"'{text}' has an empty value", "Write it as 3,5")
    if len(set(parts)) < len(parts):
        raise SettingsError(f"'{text}' repeats a value", "Pass each value once")
    return tuple(parts)


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
