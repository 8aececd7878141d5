"""Parsers of non-Python files with line numbers: YAML nodes, dotenv variables, commands of shell scripts and Makefiles."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from dotenv.parser import parse_stream


@dataclass(frozen=True)
class Command:
    """One logical shell line: number, text, and whether a `-` prefix ignores its failure."""

    line: int
    text: str
    forgiven: bool = False


@dataclass(frozen=True)
class Variable:
    """A name with a value, from any kind of file."""

    line: int
    name: str
    value: str


def yaml_documents(path: str, content: str) -> list[Any]:
    """The nodes of each document of a YAML file, nothing constructed. Raises ValueError."""
    try:
        return [node for node in yaml.compose_all(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if node]
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{path} is not YAML") from error


def fields(node: Any) -> dict[str, Any]:
    """Key -> node of a mapping with scalar keys; empty for any other node."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def items(node: Any) -> list[Any]:
    """The nodes of a sequence; empty for any other node."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def scalar(node: Any) -> str:
    """The text of a scalar; empty for any other node."""
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def line_of(node: Any) -> int:
    """Where a node begins, from 1."""
    return node.start_mark.line + 1


def nodes(documents: list[Any]) -> Iterator[Any]:
    """All nodes, each once, even if repeated by aliases."""
    waiting, seen = list(documents), set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        waiting.extend(items(node))


def mapped(documents: list[Any]) -> Iterator[Variable]:
    """All scalars under a key, or as `NAME=value` in a list, as in the environment of compose files."""
    for node in nodes(documents):
        for name, value in fields(node).items():
            if isinstance(value, yaml.ScalarNode):
                yield Variable(line_of(value), name, value.value)
        for item in items(node):
            name, mark, value = scalar(item).partition("=")
            if mark and re.fullmatch(r"\w+", name):
                yield Variable(line_of(item), name, value)


def dotenv_variables(content: str) -> list[Variable]:
    """The variables of a dotenv file."""
    found = []
    for binding in parse_stream(io.StringIO(content)):
        if binding.key and binding.value is not None and not binding.error:
            blank = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            found.append(Variable(binding.original.line + blank, binding.key, binding.value))
    return found


def logical_lines(lines: list[str]) -> Iterator[Command]:
    """Lines without comments, joined at backslash continuations."""
    begun = 1
    parts: list[str] = []
    for number, line in enumerate(lines, 1):
        begun = begun if parts else number
        bare = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        parts.append(bare.removesuffix("\\"))
        if not bare.endswith("\\") or number == len(lines):
            yield Command(begun, " ".join(parts).strip())
            parts = []


def dockerfile_instructions(lines: list[str]) -> Iterator[tuple[str, Command]]:
    """(`RUN`, its arguments) and so on."""
    for command in logical_lines(lines):
        name, _, rest = command.text.partition(" ")
        yield name.upper(), Command(command.line, rest.strip())


def recipe_lines(lines: list[str]) -> Iterator[Command]:
    """The commands of a Makefile's recipes."""
    recipe = [line if line.startswith("\t") else "" for line in lines]
    for command in logical_lines(recipe):
        mark = re.match(r"[@+\-\s]*", command.text)
        marks = mark[0] if mark else ""
        if command.text:
            yield Command(command.line, command.text[len(marks) :], forgiven="-" in marks)


def make_targets(content: str) -> set[str]:
    """Every target of a Makefile."""
    lines = re.findall(r"^([^\s:#=]+(?:[ \t]+[^\s:#=]+)*)[ \t]*::?(?!=)", content, re.MULTILINE)
    return {name for line in lines for name in line.split()}
