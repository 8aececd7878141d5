"""docs/operations.md read back: its messages against the code, its names against deploy/, its example against the doctor.

What is not here: its `openmlops` commands and its links, which `test_docs` checks with those of every document.
"""

import ast
import re
import shlex
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from openmlops.cli import app
from openmlops.operations.projects.env_file import COMPOSE
from openmlops.operations.retention.predictions import LONG_SECONDS, WINDOW
from openmlops.serving.config import Limits
from openmlops.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
FILE = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())
SERVICES: dict[str, dict] = FILE["services"]
VARIES = "\0"
FORMATTED = re.compile(r"%[sd]")


def section(title: str) -> str:
    """What stands under a heading, up to the next."""
    return re.split(r"^## ", PAGE.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def code(text: str) -> list[str]:
    """Every line of code in a text, comments taken off."""
    blocks = [block or inline for block, inline in CODE.findall(text)]
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their headings."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in cells if row[0] not in {"service", "message", "secret", "unavailable", "setting", "worth an alarm"}]


def messages() -> list[str]:
    ours = section("Messages").partition("Messages of other programs")[0]
    return [message for row in rows(ours) for message in re.findall(r"`([^`]+)`", row[0])]


@cache
def told() -> tuple[str, ...]:
    """Every text in the code, what varies in it as VARIES; of deploy/ every line."""
    found = [text for path in (ROOT / "src").rglob("*.py") for text in _texts(ast.parse(path.read_text()))]
    files = [ROOT / "deploy" / "compose.yml", ROOT / "deploy" / "backup.sh"]
    found += [re.sub(r"\$\w+", VARIES, line) for path in files for line in path.read_text().splitlines()]
    found += [text for path in (ROOT / "deploy" / "docker").glob("*.py") for text in _texts(ast.parse(path.read_text()))]
    return tuple(found)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VARIES for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield FORMATTED.sub(VARIES, node.value)


@pytest.mark.parametrize("message", messages())
def test_every_message_on_the_page_is_one_of_the_code(message: str) -> None:
    assert len(message.replace("…", "").strip()) >= 10, "too little of it is constant to be found again"
    assert any(message.replace("…", VARIES) in text for text in told())


def test_the_page_explains_many_messages_each_once() -> None:
    assert len(messages()) == len(set(messages())) > 40


def test_the_services_on_the_page_are_those_of_the_compose_file() -> None:
    said: dict[str, list[tuple[str, ...]]] = {}
    for name, _, *facts in rows(section("What runs where")):
        said.setdefault(name.strip("`") or next(reversed(said)), []).append(tuple(fact.strip("`") for fact in facts))
    assert said == {name: _facts(service) for name, service in SERVICES.items()}


def _facts(service: dict) -> list[tuple[str, ...]]:
    """Address, variable, volume and memory, a row for each port; the last two stand in the first row."""
    ports = [re.fullmatch(r"127\.0\.0\.1:\$\{(\w+):-(\d+)\}:\d+", port) for port in service.get("ports", ())]
    places = [(f"127.0.0.1:{port[2]}", port[1]) for port in ports if port] or [("", "")]
    volumes = ", ".join(mount.split(":")[0] for mount in service.get("volumes", ()) if not mount.startswith("."))
    kept = (volumes, service["deploy"]["resources"]["limits"]["memory"])
    return [(*place, *(kept if number == 0 else ("", ""))) for number, place in enumerate(places)]


def test_every_variable_on_the_page_exists() -> None:
    written = {variable.name for part in COMPOSE for variable in part.variables}
    deployed = "".join((ROOT / "deploy" / name).read_text() for name in ("compose.yml", "backup.sh"))
    known = {name.upper() for name in Settings.model_fields} | written | set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", deployed))
    named = {name for line in code(PAGE) for name in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", line)}
    assert len(named) > 40
    assert named - known - {"MYSQL_PWD"} == set()


def test_every_secret_that_init_makes_is_in_the_table_of_rotations() -> None:
    made = {variable.name for part in COMPOSE for variable in part.variables if not variable.value}
    rotated = [name for row in rows(section("Rotate secrets")) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(rotated) == sorted(made)


def test_the_page_says_of_every_secret_whether_its_rotation_was_tried() -> None:
    made = {variable.name for part in COMPOSE for variable in part.variables if not variable.value}
    last = section("What was tested, and what was not")
    unnamed = {"MLFLOW_SESSION_KEY", "ZENML_SESSION_KEY"} if "both session keys" in last else set()
    assert made - set(re.findall(r"`(\w+)`", last)) - unnamed == {"ZENML_ENCRYPTION_KEY"}


def test_every_compose_command_names_services_and_profiles_that_exist() -> None:
    lines = [line for line in code(PAGE) if "docker compose " in line]
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    named = set()
    for line in lines:
        words = shlex.split(line[line.index("docker compose ") :])[2:]
        if words[:1] == ["--profile"]:
            assert words[1] in profiles, line
            words = words[2:]
        assert words[0] in {"up", "ps", "exec", "run", "logs", "stop", "down"}, line
        if words[0] in ("exec", "run", "logs"):
            named.update(_services(words))
    assert {"app", "serve", "postgres", "mysql", "mlflow", "person"} <= named <= set(SERVICES)


def _services(words: list[str]) -> set[str]:
    """The services after `exec`, `run` (one, then its command) or `logs` (all)."""
    rest, skip = [], False
    for word in words[1:]:
        if not skip and not word.startswith("-"):
            rest.append(word)
        skip = word == "-e"
    return set(rest if words[0] == "logs" else rest[:1])


def test_every_file_of_ours_on_the_page_exists() -> None:
    named = {path for line in code(PAGE) for path in re.findall(r"(?<![\w/.])deploy/[\w./-]*\w", line)} - {"deploy/.env"}
    assert {path for path in named if not (ROOT / path).exists()} == set()
    assert {"deploy/backup.sh", "deploy/compose.yml"} <= named
    usage = (ROOT / "deploy" / "backup.sh").read_text()
    for word in {line.split()[1] for line in code(PAGE) if line.startswith("deploy/backup.sh ")}:
        assert f'"{word} "?*)' in usage


def test_every_metric_on_the_page_is_one_of_the_server() -> None:
    source = (ROOT / "src" / "openmlops" / "serving" / "metrics.py").read_text()
    named = set(re.findall(r"`(openmlops_\w+)`", section("Monitoring by Prometheus")))
    assert len(named) >= 7
    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in source} == set()


def test_the_limits_on_the_page_are_those_of_the_server_and_of_the_services() -> None:
    said, limits = section("Capacity and limits"), Limits()
    assert f"takes {limits.in_flight} requests at once" in said
    assert f"{limits.connections} connections, bodies of {limits.body_bytes // 1024**2} MiB, {limits.images} images" in said
    first, both = (
        sum(_gibibytes(service) for service in SERVICES.values() if _stays(service, second)) for second in (False, True)
    )
    assert f"may take {first:g} GiB, with the second stack {both:g} GiB" in said


def test_the_retention_on_the_page_is_that_of_the_settings() -> None:
    said = section("Retention")
    for name, field in Settings.model_fields.items():
        if name.startswith("retention_"):
            unit = {"gib": " GiB", "days": " days"}.get(name.rpartition("_")[2], "")
            assert f"`{name.upper()}`: {field.default:g}{unit}" in said
    assert f"the latest {WINDOW:,} of the champion" in said
    assert f"of about {LONG_SECONDS} s" in said


def _stays(service: dict, second: bool) -> bool:
    return service["restart"] != "no" and (second or "profiles" not in service)


def _gibibytes(service: dict) -> float:
    limit = service["deploy"]["resources"]["limits"]["memory"]
    return float(limit[:-1]) / {"m": 1024, "g": 1}[limit[-1]]


def test_the_example_of_the_doctor_is_what_it_prints_where_nothing_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    example = re.search(r"```text\n(.*?)```", section("Without Docker: your own servers"), re.DOTALL)
    assert example
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        services = {
            "DATABASE_URL": f"postgresql://openmlops:unused@{nobody}/openmlops",
            "MLFLOW_TRACKING_URI": f"http://{nobody}",
            "MINIO_ENDPOINT_URL": f"http://{nobody}",
            "MINIO_ACCESS_KEY": "unused",
            "MINIO_SECRET_KEY": "unused",
            "ZENML_STORE_URL": f"http://{nobody}",
        }
        done = CliRunner().invoke(app, ["doctor", "--server", f"http://{nobody}"], env=services)
    assert done.exit_code == 1
    assert _without_numbers(done.stdout) == _without_numbers(example[1])


def _without_numbers(text: str) -> str:
    """What depends on the machine taken out: ports, free space, the folder."""
    return re.sub(r"\S+/\.openmlops", "HOME", re.sub(r"\d+", "N", text))
