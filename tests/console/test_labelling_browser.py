"""Labelling as a person does it, in a real browser: by keys, by clicks, box by box, and with somebody else at it.

The pictures go where those of the console's page go (`test_console_in_a_browser`).
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page

from browser import Visit, chromium, is_installed, visit
from labelling_world import BOXES, World, scenes
from openmlops.console.app import create_app
from openmlops.web.sockets import bind

pytestmark = pytest.mark.skipif(not is_installed(), reason="Chromium is not installed: apt-get install chromium")

Open = Callable[..., Page]
GONE_ON = """before => document.querySelector("[name=prediction]")?.value !== before
    && document.activeElement.id === "labelling-head" """


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
def served(world: World) -> Iterator[str]:
    """The address of its console, on a free port."""
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(world.workspace), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@contextmanager
def labelling(browser: Browser, world: World, address: str, pictures: Path, image: str = "", **kind: object) -> Iterator[Visit]:
    """A window on the labelling page. At the end no script failed, no policy was broken, no other host was asked, and nothing
    was refused but labels that came second."""
    with visit(browser, address, pictures, **kind) as found:
        found.go(f"/console/models/{world.model}/labelling?image={image}")
        yield found
        assert found.elsewhere == []
        assert [told for told in (*found.failed, *found.said) if "409" not in told] == []


@pytest.fixture
def opened(browser: Browser, pictures: Path) -> Iterator[Open]:
    """Opens windows on worlds' labelling pages."""
    with ExitStack() as stack:
        addresses: dict[int, str] = {}

        def open_(world: World, image: str = "", **kind: object) -> Page:
            address = addresses.get(id(world)) or stack.enter_context(served(world))
            addresses[id(world)] = address
            return stack.enter_context(labelling(browser, world, address, pictures, image, **kind)).page

        yield open_


@pytest.fixture
def pets(worlds: dict[str, World], tmp_path: Path) -> World:
    found = worlds["pets"].copy(tmp_path / "pets")
    found.request(found.ids[:2], found.ids[2:3])
    return found


@pytest.fixture
def people(worlds: dict[str, World], tmp_path: Path) -> World:
    found = worlds["people"].copy(tmp_path / "people")
    found.request(found.ids[:2], ())
    return found


def on_screen(page: Page, box: list[float]) -> tuple[float, float, float, float]:
    """Corners of a box in pixels of the image -> on the screen."""
    (x, y, width, _), (wide, _) = _frame(page), _size(page)
    return tuple(start + value * width / wide for start, value in zip((x, y, x, y), box, strict=True))  # type: ignore[return-value]


def _frame(page: Page) -> tuple[float, float, float, float]:
    found = page.locator("svg.asked image").bounding_box()
    assert found is not None
    return found["x"], found["y"], found["width"], found["height"]


def _size(page: Page) -> tuple[float, float]:
    picture = page.locator("svg.asked")
    return float(picture.get_attribute("data-width") or 0), float(picture.get_attribute("data-height") or 0)


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def test_three_images_by_keys_alone(pets: World, opened: Open):
    page = opened(pets, pets.ids[0])
    for done, key in enumerate(("4", "6", "0"), start=1):
        page.wait_for_function("document.activeElement.id === 'labelling-head'")  # the focus arrives with each image
        page.keyboard.press(key)
        page.get_by_text(f"{done} of 3", exact=True).or_(page.get_by_text("Nothing left to label")).first.wait_for()
    assert "truck saved" in page.get_by_role("status").inner_text()
    assert "1 of the" not in page.locator("main").inner_text()
    assert "3 of the 500 new labels" in page.locator("main").inner_text()
    # in the order of the request: uncertain and random in turn
    assert [pets.label_of(pets.ids[row]) for row in (0, 2, 1)] == ["3", "5", "9"]


def test_by_clicks_with_a_skip_and_a_look_at_the_guess(pets: World, opened: Open):
    page = opened(pets, pets.ids[0])
    assert not page.get_by_text("airplane, 20 %").is_visible()
    page.keyboard.press("g")
    page.get_by_text("airplane, 20 %").wait_for()
    page.get_by_role("link", name="Skip", exact=True).click()
    page.get_by_text("The image stays in the queue").wait_for()
    page.get_by_role("button", name="dog").click()
    page.get_by_text("Saved: dog.").wait_for()
    page.reload()
    page.get_by_text("Saved: dog.").wait_for()
    assert [pets.label_of(name) for name in pets.ids[:3]] == [None, None, "5"]


def test_a_box_rejected_with_the_space_bar_and_the_rest_is_stored_exactly(people: World, opened: Open):
    page = opened(people, people.ids[0])
    page.get_by_text("Correct, save 2 boxes").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert "rejected" in (page.locator("svg g.box[data-row='0']").get_attribute("class") or "")
    page.get_by_role("button", name="Save 1 box").press("Enter")
    page.get_by_text("Saved: 1 box.").wait_for()
    assert people.boxes_of(people.ids[0]) == [[*BOXES[1, :4].tolist(), 0]]
    page.keyboard.press("a")
    page.get_by_text("Nothing left").wait_for()
    assert people.boxes_of(people.ids[1]) == [[*box[:4].tolist(), 0] for box in BOXES[:2]]


def test_boxes_are_rejected_by_a_click_drawn_by_dragging_and_deleted_again(people: World, opened: Open):
    page = opened(people, people.ids[0])
    for box in BOXES[:2]:
        x1, y1, x2, y2 = on_screen(page, box[:4].tolist())
        page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
    page.get_by_role("button", name="Save: no objects").wait_for()
    wanted = [90.0, 40.0, 120.0, 80.0]
    x1, y1, x2, y2 = on_screen(page, wanted)
    drag(page, (x1, y1), (x2, y2))
    drag(page, (x1, y1 - 120), (x2, y1 - 60))
    page.get_by_role("button", name="Save 2 boxes").wait_for()
    page.get_by_role("button", name="Delete drawn box B").click()
    page.get_by_role("button", name="Save 1 box").click()
    page.get_by_text("Saved: 1 box.").wait_for()
    ((*corners, kind),) = people.boxes_of(people.ids[0])
    assert corners == pytest.approx(wanted, abs=0.6)
    assert kind == 0


def test_a_missing_box_is_added_moved_resized_and_removed_by_keys(people: World, opened: Open):
    page = opened(people, people.ids[0])
    page.keyboard.press("m")
    page.keyboard.press("Delete")
    assert page.get_by_text("Correct, save 2 boxes").is_visible()
    page.keyboard.press("m")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Save 3 boxes").click()
    page.get_by_text("Saved: 3 boxes.").wait_for()
    added = people.boxes_of(people.ids[0])[2]
    assert added == pytest.approx([48 - 1.28, 36 - 2.56, 80, 60 - 2.56, 0], abs=0.02)


def test_what_was_labelled_elsewhere_meanwhile_is_shown_and_the_page_goes_on(pets: World, opened: Open):
    page = opened(pets, pets.ids[0])
    pets.tell(pets.ids[0], "bird")
    page.keyboard.press("4")
    page.get_by_text("labelled by someone else in the meantime").wait_for()
    page.get_by_text("Existing label: bird.").wait_for()
    following = page.locator("[name=prediction]").input_value()
    page.keyboard.press("6")
    page.get_by_text("Saved: dog.").wait_for()
    assert (pets.label_of(pets.ids[0]), pets.label_of(following)) == ("2", "5")


def test_two_browsers_at_once_store_each_label_once(pets: World, opened: Open):
    cats, dogs = opened(pets, pets.ids[0]), opened(pets, pets.ids[0])
    statuses: list[int] = []
    for page in (cats, dogs):
        page.on("response", lambda predicted: statuses.append(predicted.status) if predicted.request.method == "POST" else None)
    at_work = [(cats, "4"), (dogs, "6")]
    while at_work:
        asked = [page.locator("[name=prediction]").input_value() for page, _ in at_work]
        for page, key in at_work:
            page.keyboard.press(key)
        for (page, _), before in zip(at_work, asked, strict=True):
            page.wait_for_function(GONE_ON, arg=before)
        at_work = [(page, key) for page, key in at_work if page.locator("[name=prediction]").count()]
    assert sorted(statuses)[:4] == [200, 200, 200, 409], "they began with the same image"
    assert {pets.label_of(name) for name in pets.ids[:3]} <= {"3", "5"}
    assert pets.workspace.labelled_inputs.count_new(pets.model) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(people: World, opened: Open, scheme: str):
    page = opened(people, people.ids[0], viewport={"width": 400, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_a_person_sees_of_a_scene(tmp_path: Path, browser: Browser, pictures: Path):
    """As on the picture: the wrong box is rejected, and a person that the model has missed gets one."""
    world, overlooked = scenes(tmp_path)
    world.request(world.ids[:3], world.ids[3:])
    small = {"width": 820, "height": 560}
    with served(world) as address, labelling(browser, world, address, pictures, world.ids[0], viewport=small) as found:
        found.page.keyboard.press("a")
        found.reads("Saved: ")
        found.page.locator("input[name=box]").last.press("Space")
        x1, y1, x2, y2 = on_screen(found.page, overlooked[3][0, :4].tolist())
        drag(found.page, (x1, y1), (x2, y2))
        found.picture("console-labelling")
        found.page.get_by_role("button", name="Save ").click()
        found.page.get_by_text("Saved: ").wait_for()
    assert world.boxes_of(world.ids[3])[-1] == pytest.approx(overlooked[3][0].tolist(), abs=1.5)
