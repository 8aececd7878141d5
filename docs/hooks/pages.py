"""mkdocs' hook: the pages that are not files of docs/, and links that work here as they do on a plain git host.

What is here: README, CONTRIBUTING, CHANGELOG and each file outside docs/ that a page links to as pages of the site, the list of
decisions, the pages made from the code, and the diagram of a README as the picture that `docs/plots.py` drew of it.
What is not: what the pages made from the code say (`command_line`, `http_interface`, `python_api`).
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs loads a hook by its path alone
import command_line
import http_interface
import python_api

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = "decisions/index.md"
OF_ROOT = {
    "README.md": "index.md",
    "README.fr.md": "fr.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PICTURES = {"README.md": "pictures/loop.svg", "README.fr.md": "pictures/loop.fr.svg"}
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(\))")
DIAGRAM = re.compile(r"```mermaid\n.*?```", re.DOTALL)
LANGUAGES = {".py": "python", ".yml": "yaml", ".toml": "toml", ".sh": "bash"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions into the navigation."""
    decisions = [DECISIONS, *(path.relative_to(DOCS).as_posix() for path in _decisions())]
    config.nav = _filled(config.nav or [], decisions)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    interface = http_interface.document()
    made = {
        DECISIONS: "# Decisions\n\n" + "\n".join(f"- [{_title(path)}]({path.name})" for path in _decisions()),
        command_line.PAGE: command_line.page(),
        http_interface.PAGE: http_interface.page(interface),
        http_interface.DOCUMENT: http_interface.text(interface),
        python_api.PAGE: python_api.page(),
    }
    made |= {page: _of_root(name) for name, page in OF_ROOT.items() if (ROOT / name).exists()}
    made |= {_shown(path): _as_page(path) for path in _linked_outside()}
    for name, content in made.items():
        place = InclusionLevel.NOT_IN_NAV if name.startswith("files/") else InclusionLevel.UNDEFINED
        files.append(File.generated(config, name, content=content, inclusion=place))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn each link to a file or folder of the repository into one to its page."""
    source = page.file.src_uri
    return LINK.sub(lambda found: "".join((found[1], _link(source, found[2]), found[3] or "", found[4])), markdown)


def _filled(entry: Any, decisions: list[str]) -> Any:
    """An entry of the navigation, the decisions under their title."""
    if isinstance(entry, list):
        return [_filled(one, decisions) for one in entry]
    if not isinstance(entry, dict):
        return entry
    ((title, inside),) = entry.items()
    return {title: decisions if title == "Decisions" else _filled(inside, decisions)}


def _decisions() -> list[Path]:
    return sorted((DOCS / "decisions").glob("0*.md"))


def _title(path: Path) -> str:
    return path.read_text().partition("\n")[0].removeprefix("# ")


def _of_root(name: str) -> str:
    picture = f"![]({'docs/' + PICTURES.get(name, '')})"
    return DIAGRAM.sub(picture, (ROOT / name).read_text())


def _linked_outside() -> Iterator[Path]:
    """The files that a page links to and that are neither in docs/ nor pages of the root."""
    for source in (*DOCS.rglob("*.md"), *(ROOT / name for name in OF_ROOT if (ROOT / name).exists())):
        for _, target, _, _ in LINK.findall(source.read_text()):
            path = (source.parent / target).resolve()
            if path.is_file() and ROOT in path.parents and DOCS not in path.parents and path.name not in OF_ROOT:
                yield path


def _link(source: str, target: str) -> str:
    """`target` of the page `source`, as it stands in the repository, as it is on the site."""
    of_root = {page: name for name, page in OF_ROOT.items()}
    folder = ROOT if source in of_root else (DOCS / source).parent
    path = (folder / target).resolve()
    if not path.exists():
        return target
    return posixpath.relpath(_on_site(path), posixpath.dirname(source) or ".")


def _on_site(path: Path) -> str:
    if path == DOCS / "decisions":
        return DECISIONS
    if DOCS in path.parents:
        return path.relative_to(DOCS).as_posix()
    return OF_ROOT.get(path.relative_to(ROOT).as_posix(), _shown(path))


def _shown(path: Path) -> str:
    """The page that shows a file from outside docs/; mkdocs leaves out what begins with a dot."""
    parts = [part.lstrip(".") for part in path.relative_to(ROOT).parts]
    return "/".join(("files", *parts)) + ".md"


def _as_page(path: Path) -> str:
    name, language = path.relative_to(ROOT).as_posix(), LANGUAGES.get(path.suffix, "text")
    return f"# {name}\n\n~~~~~~ {language}\n{path.read_text().rstrip()}\n~~~~~~\n"
