"""The page of a version's errors: what its run holds, escaped; a clear line where there is nothing."""

import io

import pytest
from console_world import CHAMPION, FIRST, NAME
from PIL import Image
from starlette.testclient import TestClient

from openmlops.console import errors
from openmlops.core.explanations import ConfusedPair, Explanations, Picture, SliceScore
from openmlops.core.types import Interval
from openmlops.operations.release.explanations import EVALUATION, FILE
from openmlops.operations.workspace import Workspace

HOSTILE = '<img src=x onerror="alert(1)">'
PLACE = f"/console/models/{NAME}/versions/{CHAMPION}/errors"
SCORE = Interval(value=0.5, low=0.4, high=0.6)


@pytest.fixture(scope="module", autouse=True)
def explained(toys: Workspace) -> None:
    """The champion's run gets the files that a training makes."""
    told = Explanations(
        metric="accuracy",
        split="test",
        n=100,
        score=SCORE,
        pairs=(ConfusedPair(true=HOSTILE, predicted="b", count=3, n=10),),
        slices=(SliceScore(by="source", name=HOSTILE, n=40, score=SCORE),),
        pictures=(Picture(file="worst_errors.png", title="Worst errors"), Picture(file="text.png", title=HOSTILE)),
    )
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    files = {FILE: told.model_dump_json().encode(), "worst_errors.png": buffer.getvalue(), "text.png": b"<script>"}
    key = (toys.settings.tracking_uri, toys.registry.version(NAME, CHAMPION).run_id)
    errors._kept[key] = files  # as read before: MLflow's client keeps the place of a home that was copied since


def test_it_shows_slices_confusions_and_pictures(client: TestClient) -> None:
    found = client.get(PLACE)
    assert found.status_code == 200
    assert "50.0 % [40.0, 60.0]" in found.text
    assert f'<img class="explained" src="{PLACE}/worst_errors.png" alt="Worst errors">' in found.text


def test_no_name_of_the_data_is_markup(client: TestClient) -> None:
    page = client.get(PLACE).text
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=&#34;alert(1)&#34;&gt;") == 4


def test_its_pictures_are_png_and_nothing_else_is_sent(client: TestClient) -> None:
    picture = client.get(f"{PLACE}/worst_errors.png")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert "sandbox" in picture.headers["content-security-policy"]
    for name in ("text.png", FILE, "nothing.png", "..%2fmeta.yaml"):
        assert client.get(f"{PLACE}/{name}").status_code == 404, name


def test_a_version_without_them_says_so(client: TestClient) -> None:
    found = client.get(f"/console/models/{NAME}/versions/{FIRST}/errors")
    assert found.status_code == 404
    assert f"The run of {NAME}/{FIRST} has no {EVALUATION}/{FILE}" in found.text
    assert client.get(f"/console/models/{NAME}/versions/99/errors").status_code == 404


def test_the_versions_of_a_model_link_to_their_errors(client: TestClient) -> None:
    assert f'href="{PLACE}"' in client.get(f"/console/models/{NAME}/parts/versions").text
