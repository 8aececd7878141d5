"""The page of the HTTP interface, from the application's own OpenAPI document, which is put beside it."""

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig

PAGE = "reference/http.md"
DOCUMENT = "reference/openapi.json"
HEAD = """# HTTP interface

What `openmlops serve` answers, made from the server's own OpenAPI document ([openapi.json](openapi.json)); a running server
shows it at `/docs`. Errors are problem details after RFC 9457, `application/problem+json`. Which token a request needs:
[settings](../settings.md).
"""


def document() -> dict[str, Any]:
    """The OpenAPI document of a server that is not started."""
    config = ServingConfig(
        model="cifar10_cnn",
        use_case="cifar10",
        home=Path(".openmlops"),
        database_url=SecretStr("sqlite:///unused.db"),
        tracking_uri=SecretStr("sqlite:///unused.db"),
    )
    return create_app(config).openapi()


def page(found: dict[str, Any]) -> str:
    """The page, in Markdown."""
    paths = [_operation(path, method, said) for path, methods in found["paths"].items() for method, said in methods.items()]
    schemas = [_schema(name, schema) for name, schema in sorted(found["components"]["schemas"].items())]
    return "\n".join([HEAD, *paths, "# What travels", "", *schemas])


def text(found: dict[str, Any]) -> str:
    """The document as a file."""
    return json.dumps(found, indent=1)


def _operation(path: str, method: str, said: dict[str, Any]) -> str:
    lines = [f"## {method.upper()} {path}", "", said.get("description") or said.get("summary", ""), ""]
    if rows := [_parameter(parameter) for parameter in said.get("parameters", ())]:
        lines += ["| parameter | in | what | kind |", "|---|---|---|---|", *rows, ""]
    if body := said.get("requestBody"):
        lines += [f"Body: {', '.join(_content(body))}", ""]
    predictions = [
        f"| {status} | {answer.get('description', '')} | {', '.join(_content(answer))} |"
        for status, answer in sorted(said["responses"].items())
    ]
    return "\n".join([*lines, "| answer | when | what |", "|---|---|---|", *predictions, ""])


def _parameter(parameter: dict[str, Any]) -> str:
    what = parameter.get("description", "")
    return f"| `{parameter['name']}` | {parameter['in']} | {what} | {_kind(parameter.get('schema', {}))} |"


def _content(holder: dict[str, Any]) -> list[str]:
    return [f"`{media}` {_kind(said.get('schema', {}))}".strip() for media, said in holder.get("content", {}).items()]


def _schema(name: str, schema: dict[str, Any]) -> str:
    needed = schema.get("required", ())
    rows = [
        f"| `{field}` | {_kind(said)} | {'yes' if field in needed else 'no'} | {said.get('description', '')} |"
        for field, said in schema.get("properties", {}).items()
    ]
    table = ["| field | kind | always | |", "|---|---|---|---|", *rows] if rows else [_kind(schema)]
    about = " ".join(schema.get("description", "").split())
    return "\n".join([f"## {name} {{ #{name} }}", "", about, "", *table, ""])


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words, those with a name as a link."""
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[1]
        return f"[{name}](#{name})"
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(one) for one in several)
    if values := schema.get("enum"):
        return " or ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if fields := schema.get("properties"):
        return "object of " + ", ".join(f"`{name}` ({_kind(said)})" for name, said in fields.items())
    return "bytes" if schema.get("format") == "binary" else str(schema.get("type", "anything"))
