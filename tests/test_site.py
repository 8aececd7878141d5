"""The documentation site, built once: strictly, from what is here alone, complete, and it loads nothing from elsewhere."""

import json
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from commands import every_command
from openmlops.settings import Settings

ROOT = Path(__file__).parent.parent
NOWHERE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1")
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "embed": "src", "object": "data", "video": "src"}
"""what a browser fetches by itself; `link` too, unless it only says where something is"""
ONLY_SAID = {"canonical", "next", "prev", "alternate", "edit"}


class Page(HTMLParser):
    """What a page loads, what it links to, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.ids.add(said.get("id", ""))
        if address := said.get(LOADED.get(tag, "")):
            self.loads.append(address)
        if tag == "link" and said.get("rel") not in ONLY_SAID:
            self.loads.append(said["href"])
        if tag == "a" and "href" in said:
            self.links.append(said["href"])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built without a network as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
    environment = os.environ | NOWHERE | {"NO_MKDOCS_2_WARNING": "1", "USE_CASE": "person"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[str, Page]) -> None:
    assert len(pages) > 30
    assert [(name, one) for name, page in pages.items() for one in page.loads if urlsplit(one).netloc] == []
    for sheet in site.rglob("*.css"):
        addresses = re.findall(r"url\([\"']?([^)\"']+)|@import\s+[\"']([^\"']+)", sheet.read_text())
        assert [one for found in addresses for one in found if urlsplit(one).netloc] == [], sheet.name
    assert not any("mermaid" in (site / name).read_text() for name in ("index.html", "fr.html")), "it would come from elsewhere"


def test_whatever_a_page_loads_or_links_to_is_there(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for address in (*page.loads, *page.links):
            target = urlsplit(address)
            if target.scheme or target.netloc or name == "404.html":
                continue
            path = (site / name).parent / unquote(target.path) if target.path else site / name
            assert path.resolve().is_file(), f"{name}: {address}"
            if target.fragment and path.suffix == ".html":
                there = pages[path.resolve().relative_to(site).as_posix()].ids
                assert unquote(target.fragment) in there | {"__comments"}, f"{name}: {address}"


def test_every_page_of_ours_is_on_the_site(site: Path) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    made = {
        "index.html",
        "fr.html",
        "contributing.html",
        "changelog.html",
        "decisions/index.html",
        "files/examples/digits.py.html",
    }
    made |= {f"reference/{name}.html" for name in ("commands", "http", "python")}
    assert {page for page in written | made if not (site / page).is_file()} == set()
    assert not (site / "hooks").exists()


def test_every_page_can_be_found_without_a_server(site: Path, pages: dict[str, Page]) -> None:
    index = json.loads((site / "search" / "search_index.js").read_text().removeprefix("var __index = "))
    texts = {entry["location"]: entry["text"] for entry in index["docs"]}
    assert {location.split("#")[0] for location in texts} == set(pages) - {"404.html"}
    assert any("openmlops promote MODEL/VERSION" in text for text in texts.values())
    shims = [one for one in pages["index.html"].loads if "iframe-worker" in one]
    assert shims == ["assets/iframe-worker.js"], "what lets the search run from a file"


def test_the_reference_has_every_command_setting_route_and_module(site: Path, pages: dict[str, Page]) -> None:
    assert {"-".join(("openmlops", *words)) for words, _ in every_command()} - pages["reference/commands.html"].ids == set()
    settings = (site / "settings.html").read_text()
    assert [name for name in Settings.model_fields if f"<code>{name.upper()}</code>" not in settings] == []
    routes = json.loads((site / "reference" / "openapi.json").read_text())["paths"]
    http = (site / "reference" / "http.html").read_text()
    assert {"/predict", "/feedback", "/v2/models/{name}/infer"} <= set(routes)
    assert [route for route in routes if route not in http] == []
    python = pages["reference/python.html"].ids
    named = (
        "core.gate.rules.decide",
        "core.monitoring.drift.measure",
        "core.monitoring.policy.Policy.cooldown_hours",
        "adapters.ledger.Ledger.append",
        "operations.workspace.Workspace.open",
        "usecases.base.UseCase.to_model_input",
    )
    assert {f"openmlops.{name}" for name in named} <= python


def test_each_diagram_is_the_one_of_its_readme(site: Path) -> None:
    for readme, picture in (("README.md", "loop.svg"), ("README.fr.md", "loop.fr.svg")):
        block = re.search(r"```mermaid\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
        assert block
        said = [line for text in re.findall(r'"(.*?)"', block[1]) for line in text.split("<br/>")]
        drawn = re.findall(r"<tspan[^>]*>(.*?)</tspan>", unescape((site / "pictures" / picture).read_text()))
        assert sorted(said) == sorted(drawn), f"run docs/plots.py: {picture}"


def test_the_configuration_asks_nothing_of_other_hosts() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert config["theme"]["font"] is False
    assert config["strict"] is True
    assert "offline" in config["plugins"]
