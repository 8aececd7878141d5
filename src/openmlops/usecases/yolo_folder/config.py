"""`data.yaml` and lists of class names, as people and tools write them: a class is called what they wrote.

YAML 1.1 would read `yes` and `on` as true, `null` as nothing and `007` as 7. Here every value is a text, so a name needs no
quotes and a number is the text of its digits. What is not here: the folders that `data.yaml` names (folder.py, arrange.py).
"""

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from openmlops.files import opened
from openmlops.names import composed, is_showable

CONFIG = "data.yaml"
MAX_BYTES = 2**16
MAX_NAMES = 1000

_PLAIN = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_ABSENT = ("", "~", "null", "Null", "NULL")
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(path: Path, most: int = MAX_BYTES) -> tuple[str, str]:
    """The text of a file of at most `most` bytes, UTF-8 or UTF-16 with a byte order mark, and what is wrong, or empty.

    Raises FileNotFoundError.
    """
    try:
        with opened(path) as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        if path.is_symlink():
            return "", "the file is a link to nothing; restore what it leads to, or replace it"
        raise
    except OSError as error:
        return "", f"the file cannot be read ({error.strerror})"
    if len(content) > most:
        return "", f"the file has more than {most} bytes"
    mark, encoding = next(((mark, name) for mark, name in _ENCODINGS if content.startswith(mark)), (b"", "utf-8"))
    try:
        return content.removeprefix(mark).decode(encoding), ""
    except UnicodeDecodeError:
        return "", "the file is not UTF-8 text; save it as UTF-8"


def read(path: Path) -> tuple[dict[str, Any], str]:
    """The mapping in a YAML file, all keys and values as texts, lists and mappings; and what is wrong, or empty.

    Raises FileNotFoundError.
    """
    text, wrong = read_text(path)
    if wrong:
        return {}, wrong
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.BaseLoader)):
            return {}, "the file has YAML aliases (`*name`); expand them"
        content = _plain(yaml.compose(text, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, LookupError) as error:
        said = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        return {}, f"the file is not YAML ({said[:120]})"
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else "text"
        return {}, f"the file holds {f'a {kind}' if content else 'nothing'}, not a mapping; add names, train and test"
    return content, ""


def value(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key, None if it is absent, empty or `null`."""
    found = config.get(key)
    return None if isinstance(found, str) and found in _ABSENT else found


def class_names(config: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """The names by their numbers, from 0 without gaps, and what is wrong, or empty: a number in a label file means the name
    that `names` gives it, so gaps are refused. An `nc` that contradicts is wrong too; the names are returned all the same."""
    names, wrong = _numbered(config.get("names"))
    if wrong := wrong or why_not(names):
        return (), wrong
    return names, wrong_count(config, names)


def wrong_count(config: Mapping[str, Any], names: Sequence[str], key: str = "nc") -> str:
    """What is wrong with the number of names, which `key` is; empty if it is right or absent."""
    count = value(config, key)
    if count is None or (_is_number(count) and int(count) == len(names)):
        return ""
    told = count if isinstance(count, str) else _short(count)
    return f"{key} is {told[:20]}, but the number of class names is {len(names)}; correct one of them"


def listed_names(text: str) -> tuple[tuple[str, ...], str]:
    """The names in a file of one name per line, and what is wrong, or empty: the first line is class 0."""
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if empty := [number for number, line in enumerate(lines, start=1) if not line]:
        return (), f"line {empty[0]} is empty, so it is unclear which number the next name has; delete it or write a name there"
    wrong = why_not(lines) if lines else "the file has no class names; write one per line"
    return (() if wrong else tuple(lines)), wrong


def why_not(names: Sequence[str]) -> str:
    """Why these cannot be the names of classes; empty if they can."""
    if len(names) > MAX_NAMES:
        return f"names has {len(names)} classes, more than {MAX_NAMES}"
    for number, name in enumerate(names):
        if not name.strip():
            return f"class {number} has no name; write one"
        if not is_showable(name):
            return f"the name of class {number} has characters that cannot be printed ({_short(name)}); write another"
    spelled = [composed(name) for name in names]
    if twice := [name for number, name in enumerate(spelled) if name in spelled[:number]]:
        return f"names has {_short(twice[0])} twice; write each name once"
    return ""


def _numbered(names: object) -> tuple[tuple[str, ...], str]:
    """The values of `names` in the order of their numbers, and what is wrong, or empty."""
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        return (), "names is neither a list of class names nor a mapping of numbers to them"
    if strange := [number for number in names if not _is_number(number)]:
        return (), f"names has {_short(strange[0])} where a class number must be; number the classes from 0"
    if nested := [name for name in names.values() if not isinstance(name, str)]:
        return (), f"names has {_short(nested[0])} where a class name must be; put it into quotes"
    by_number = {int(number): name for number, name in names.items()}
    if len(by_number) < len(names):
        return (), "names has a class number twice; write each once"
    if sorted(by_number) != list(range(len(by_number))):
        listed = ", ".join(map(str, sorted(by_number)[:5])) + (", ..." if len(by_number) > 5 else "")
        missing = next(number for number in range(len(by_number)) if number not in by_number)
        remedy = f"label files mean these numbers, so add the missing names, such as {missing}: unused, or renumber both"
        return (), f"names has the numbers {listed}, not 0 to {len(by_number) - 1}; {remedy}"
    return tuple(by_number[number] for number in range(len(by_number))), ""


def _plain(node: yaml.Node | None) -> Any:
    """A YAML node as text, list or mapping of texts. Raises ValueError for tags and for a key that is there twice."""
    if node is None:
        return ""
    if node.tag not in _PLAIN:
        raise ValueError(f"line {node.start_mark.line + 1} has the tag {node.tag}; remove it")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return node.value
    found: dict[str, Any] = {}
    for key, item in node.value:
        name = _plain(key)
        if not isinstance(name, str) or name in found:
            raise ValueError(f"line {key.start_mark.line + 1} has the key {_short(name)}, which is no text or there twice")
        found[name] = _plain(item)
    return found


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 10


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
