"""The console as a person uses it: a real Chromium, one server, one world that goes on from test to test.

The pictures go to the folder that the environment variable SCREENSHOTS names, else to a temporary one; those of docs/pictures
are made so.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from console_world import BEST, CHAMPION, NAME, decide, predicted
from playwright.sync_api import Browser

from browser import Visit, chromium, is_installed, visit
from openmlops.console.app import create_app
from openmlops.operations.workspace import Workspace
from openmlops.web.sockets import bind

PAGE = f"/console/models/{NAME}"

pytestmark = pytest.mark.skipif(not is_installed(), reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def address(toys: Workspace) -> Iterator[str]:
    bound = bind("127.0.0.1", 0)
    settings = uvicorn.Config(create_app(toys), log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextmanager
def looking(browser: Browser, address: str, pictures: Path, **kind: object) -> Iterator[Visit]:
    """The model's page, live. At the end nothing was refused, no script failed, no policy was broken, no other host asked."""
    with visit(browser, address, pictures, **kind) as found:
        found.go(PAGE)
        found.page.locator("#connection", has_text="live").wait_for()
        yield found
        assert (found.failed, found.said, found.elsewhere) == ([], [], [])


@pytest.fixture
def page(browser: Browser, address: str, pictures: Path) -> Iterator[Visit]:
    with looking(browser, address, pictures) as found:
        yield found


def test_the_page_has_landmarks_headings_and_names_for_all_that_can_be_used(page: Visit) -> None:
    found = page.page
    assert [found.get_by_role(role).count() for role in ("banner", "main")] == [1, 1]
    assert found.get_by_role("heading", level=1).inner_text() == NAME
    assert found.locator("button, a, input, select").evaluate_all(NAMELESS) == []
    assert found.locator("table:not(:has(caption)), th:not([scope]), img:not([alt])").count() == 0
    assert found.locator("[id]").evaluate_all("all => all.length - new Set(all.map(e => e.id)).size") == 0
    found.locator(".js-plotly-plot").nth(3).wait_for()
    assert found.locator(".js-plotly-plot").count() == 4


NAMELESS = """all => all.filter(e => e.type !== "hidden" && !(e.textContent.trim() || e.getAttribute("aria-label")
  || (e.labels && e.labels.length))).map(e => e.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(browser: Browser, address: str, pictures: Path, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for every text that is seen, on the ground that it really has."""
    with looking(browser, address, pictures, color_scheme=scheme) as found:
        assert found.page.evaluate(FAINT) == []
        before = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        found.page.get_by_role("button", name="Dark").click()
        assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        assert found.page.evaluate(FAINT) == []
        found.picture("console-dark" if scheme == "light" else "console-light")


FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const rgb = (text) => { canvas.fillStyle = text; const n = parseInt(canvas.fillStyle.slice(1), 16);
    return [n >> 16, (n >> 8) & 255, n & 255]; };
  const light = (text) => rgb(text).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (!c.endsWith(", 0)")) return c; } return "rgb(255, 255, 255)"; };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("svg, noscript, script, .hidden, dialog:not([open])") || !e.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(`${e.className} ${e.textContent.trim().slice(0, 30)}`);
  }
  return faint;
}"""


def test_nothing_is_cut_off_on_a_small_screen(browser: Browser, address: str, pictures: Path) -> None:
    with looking(browser, address, pictures, viewport={"width": 400, "height": 800}) as found:
        assert found.page.evaluate("document.documentElement.scrollWidth") <= 400
        found.picture("console-narrow")


def test_new_answers_are_counted_without_a_reload(page: Visit, toys: Workspace) -> None:
    page.reads("latest prediction")
    mark_page(page)
    predicted(toys, datetime.now(UTC), n=60)
    page.page.locator("#now", has_text="ms for the latest 150").wait_for()
    assert is_marked(page)


def test_a_version_is_promoted_through_the_gate_after_a_confirmation(page: Visit, toys: Workspace) -> None:
    found = page.page
    mark_page(page)
    found.get_by_role("button", name=f"Promote… version {BEST}").click()
    dialog = found.get_by_role("dialog", name=f"Promote version {BEST}?")
    page.picture("console-promote")
    assert toys.ledger.champion(NAME) == CHAMPION
    dialog.get_by_role("button", name="Promote").click()
    dialog.get_by_text(f"Done: version {BEST} is in production now").wait_for()
    assert toys.ledger.champion(NAME) == BEST
    dialog.get_by_role("button", name="Close").click()
    found.locator("#now", has_text=f"version {BEST}").wait_for()
    found.locator("#ledger", has_text=f"Version {BEST} promoted").wait_for()
    assert is_marked(page)


def test_a_refusal_of_the_gate_is_shown_with_its_reasons(page: Visit, toys: Workspace) -> None:
    page.page.get_by_role("button", name=f"Promote… version {CHAMPION}").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("button", name="Promote").click()
    refusal = dialog.get_by_role("alert")
    refusal.get_by_text(f"The gate did not promote {NAME}/{CHAMPION} (reject)").wait_for()
    assert "is worse" in refusal.inner_text()
    assert toys.ledger.champion(NAME) == BEST


def test_a_rollback_is_done_with_the_keyboard_alone(page: Visit, toys: Workspace) -> None:
    keys, found = page.page.keyboard, page.page
    keys.press("Tab")
    assert found.evaluate("document.activeElement.textContent") == "Skip to the content"
    keys.press("Enter")
    for _ in range(20):
        keys.press("Tab")
        if found.evaluate("document.activeElement.textContent") == "Roll back…":
            break
    keys.press("Enter")
    dialog = found.get_by_role("dialog", name=f"Roll back {BEST} -> {CHAMPION}?")
    dialog.wait_for()
    keys.press("Escape")
    dialog.wait_for(state="hidden")
    assert found.evaluate("document.activeElement.textContent") == "Roll back…"
    keys.press("Enter")
    dialog.wait_for()
    keys.type("complaints from site 4")
    keys.press("Enter")
    dialog.get_by_text(f"Done: version {CHAMPION} is in production now").wait_for()
    assert found.evaluate("document.activeElement.closest('dialog') !== null")
    keys.press("Escape")
    assert toys.ledger.champion(NAME) == CHAMPION
    assert "complaints from site 4" in toys.ledger.head(NAME).reasons[0]
    found.locator("#ledger", has_text=f"Rolled back to version {CHAMPION}").wait_for()


def test_an_alarm_appears_while_somebody_looks(page: Visit, toys: Workspace) -> None:
    alarm = page.page.get_by_role("alert").filter(has_text="differs from the data it was trained on")
    assert alarm.count() == 0
    mark_page(page)
    page.page.get_by_text("The same points as a table").first.click()
    decide(toys, "drift")
    alarm.wait_for()
    assert "statistic 412.5 is above 64.0" in alarm.inner_text()
    page.page.locator("#decisions", has_text="Collect labels").wait_for()
    page.page.locator("#drift tbody", has_text="412.5").wait_for()  # still folded out
    assert is_marked(page)
    page.picture("console")


def mark_page(found: Visit) -> None:
    """So that a reload would be noticed."""
    found.page.evaluate("window.neverLoadedAnew = true")


def is_marked(found: Visit) -> bool:
    return bool(found.page.evaluate("window.neverLoadedAnew === true"))
