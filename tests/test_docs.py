"""The documents fail when they lie: commands, make targets, settings and the tree are read back and compared."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from commands import make_targets, unknown
from openmlops.settings import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(r"""^(?:docker compose [^"]* )?openmlops (.+)$""")
"""as given here, or in a container"""
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def code(document: Path) -> list[str]:
    """Every line of code in a document, comments taken off."""
    blocks = [block or inline for block, inline in CODE.findall(document.read_text())]
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def commands() -> list[list[str]]:
    """Each `openmlops ...` that a document names, as words."""
    found = {command[1] for document in DOCUMENTS for line in code(document) if (command := COMMAND.match(line))}
    return sorted(re.sub(r"\[.*?\]", "", line).split() for line in found)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_in_the_documents_exists_with_its_options(words: list[str]) -> None:
    assert unknown(words) == []


def test_the_commands_of_the_operators_page_are_among_them() -> None:
    assert {"traffic --url http://serve:8000 --labels", "stack check", "init --stack compose"} <= set(map(" ".join, commands()))


def test_every_make_target_in_the_documents_exists() -> None:
    named = {line.split()[1] for document in DOCUMENTS for line in code(document) if re.match(r"make [a-z]", line)}
    assert {"setup", "demo", "test"} <= named
    assert named - make_targets() == set()


def test_the_settings_table_is_the_settings() -> None:
    table = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    assert table == [(name.upper(), _default(name), field.description) for name, field in Settings.model_fields.items()]


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(int(value) if isinstance(value, bool) else value)
    return f"`{text}`" if text else ""


def test_the_tree_in_the_architecture_page_is_the_tree() -> None:
    block = re.search(r"```\nsrc/openmlops/\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    assert block
    named = set(re.findall(r"\b(\w+\.py)\b", block[1]))
    present = {path.name for path in (ROOT / "src" / "openmlops").rglob("*.py")} - {"__init__.py"}
    migrations = {path.name for path in (ROOT / "src" / "openmlops" / "adapters" / "migrations").rglob("*.py")}
    assert present - migrations - named == set(), "not in the picture"
    assert named - present == set(), "in the picture only"


def test_every_name_in_the_python_examples_exists() -> None:
    blocks = [block for document in DOCUMENTS for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)]
    assert blocks
    for tree in map(ast.parse, blocks):
        names: dict[str, object] = {}
        imports: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), "example", "exec"), names)
        used = [(node.value, node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        found = [(owner.id, name) for owner, name in used if isinstance(owner, ast.Name) and owner.id in names]
        assert found
        assert [(owner, name) for owner, name in found if not hasattr(names[owner], name)] == []


def test_every_term_of_the_glossary_is_defined_briefly_and_names_a_module_that_exists() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text()
    entries = re.findall(r"^\| ([a-z][\w -]*) \| (.+) \| `([\w/]+\.py)` \|$", page, re.MULTILINE)
    terms = [term for term, *_ in entries]
    assert len(terms) == len(set(terms)) > 30
    assert len(entries) == len(re.findall(r"^\| (?!term \|)", page, re.MULTILINE)), "a row is malformed"
    assert [term for term, definition, _ in entries if not 1 <= len(re.findall(r"\.(?: |$)", definition)) <= 2] == []
    assert [module for *_, module in entries if not (ROOT / "src" / "openmlops" / module).is_file()] == []


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_help_in_a_process_of_its_own() -> None:
    program = Path(sys.executable).parent / "openmlops"
    shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert "train" in shown.stdout
