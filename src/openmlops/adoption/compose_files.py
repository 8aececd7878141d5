"""Compose files parsed into services: image, environment and published ports, each with its line number."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openmlops.adoption.plain_texts import Variable, fields, items, line_of, mapped, scalar
from openmlops.adoption.project import Project


@dataclass(frozen=True)
class Published:
    """A published port of the host: line, bound address (empty: all interfaces) and number."""

    line: int
    address: str
    port: str

    @property
    def is_open(self) -> bool:
        """Whether the port is published on all interfaces."""
        return self.address in ("", "0.0.0.0", "::", "[::]")


@dataclass(frozen=True)
class Service:
    """One service of a compose file."""

    path: str
    name: str
    line: int
    image: str
    environment: tuple[Variable, ...]
    ports: tuple[Published, ...]


def services(project: Project) -> Iterator[Service]:
    """The services of every compose file in the project."""
    for path, documents in project.yaml.items():
        for document in documents:
            for name, node in fields(fields(document).get("services")).items():
                part = fields(node)
                if part:
                    yield _service(path, name, node, part)


def _service(path: str, name: str, node: Any, part: dict[str, Any]) -> Service:
    environment = [part[key] for key in ("environment", "command", "entrypoint") if key in part]
    return Service(
        path=path,
        name=name,
        line=line_of(node),
        image=scalar(part.get("image")),
        environment=tuple(mapped(environment)),
        ports=tuple(port for item in items(part.get("ports")) if (port := _port(item))),
    )


def default(text: str) -> str:
    """A text with `${NAME:-value}` replaced by its default value."""
    return re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)


def _port(item: Any) -> Published | None:
    """`5432:5432`, `127.0.0.1:5432:5432`, `${PORT:-80}:80`, or the long form."""
    if long := fields(item):
        number = default(scalar(long.get("published")))
        return Published(line_of(item), default(scalar(long.get("host_ip"))), number) if number else None
    match = re.fullmatch(r"(?:(\[[^\]]+\]|[^:]+):)?([\d-]+|\$\w+|\$\{\w+\}):[\d-]+(?:/\w+)?", default(scalar(item)))
    return Published(line_of(item), match[1] or "", match[2]) if match else None
