"""A real browser in front of pages: Debian's Chromium, that reaches this machine and nothing else."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, Response, Route, sync_playwright

SIZE = {"width": 1280, "height": 800}
SECONDS = 180
FEWEST_COLOURS = 30
FEWEST_BYTES = 10_000


def is_installed() -> bool:
    """Whether there is a Chromium."""
    return shutil.which("chromium") is not None


@contextmanager
def chromium() -> Iterator[Browser]:
    """Without a screen and without a GPU, which it would imitate at the cost of the servers beside it."""
    program = shutil.which("chromium")
    assert program, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One person's page on the server at `url`, what that server refused or could not answer, and pictures in `folder`."""

    page: Page
    url: str
    folder: Path
    failed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """errors and warnings on the page's console, broken policies among them, and exceptions of its scripts"""
    elsewhere: list[str] = field(default_factory=list)
    """addresses on other hosts that the page asked for"""

    def go(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    def reads(self, *texts: str) -> None:
        """Wait until each text stands, visible, on the page. Fails with its name if it does not come."""
        for text in texts:
            self.page.get_by_text(text).filter(visible=True).first.wait_for()

    def picture(self, name: str) -> None:
        """Keep what is seen as `name`.png. Fails if next to nothing is seen."""
        self.page.wait_for_timeout(1000)
        path = self.folder / f"{name}.png"
        path.write_bytes(self.page.screenshot(animations="disabled"))
        with Image.open(path) as picture:
            seen = picture.convert("RGB")
        colours = seen.getcolors(maxcolors=seen.width * seen.height) or []
        assert len(colours) > FEWEST_COLOURS, f"{name}: {len(colours)} colours"
        assert path.stat().st_size > FEWEST_BYTES, f"{name}: {path.stat().st_size} bytes"
        seen.save(path, optimize=True)


@contextmanager
def visit(browser: Browser, url: str, folder: Path, user: str = "", password: str = "", **kind: Any) -> Iterator[Visit]:
    """A new browser window, with basic auth where a user is given; `kind` is Playwright's."""
    signed = {"http_credentials": {"username": user, "password": password}} if user else {}
    context = browser.new_context(**{"viewport": SIZE, "reduced_motion": "reduce", **signed, **kind})
    context.set_default_timeout(SECONDS * 1000)
    context.route(lambda address: not _is_here(address), _nobody)
    found = Visit(context.new_page(), url, folder)

    def note(response: Response) -> None:
        if response.status >= 400 and response.url.startswith(url):
            found.failed.append(f"{response.status} {response.request.method} {response.url}")

    context.on("response", note)
    context.on("request", lambda asked: None if _is_here(asked.url) else found.elsewhere.append(asked.url))
    found.page.on("console", lambda told: found.said.append(told.text) if told.type in ("error", "warning") else None)
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    yield found
    context.close()


def _is_here(address: str) -> bool:
    return urlsplit(address).scheme in ("data", "blob") or urlsplit(address).hostname == "127.0.0.1"


def _nobody(route: Route) -> None:
    """The world outside: its pictures are empty, the rest is not reached."""
    if route.request.resource_type == "image":
        route.fulfill(content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg"/>')
    else:
        route.abort()
