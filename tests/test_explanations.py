"""docs/gate.md and docs/drift.md read back: their figures against `docs/plots.py` at small n, their rules against the code.

A share on the page and one measured here may differ by what luck makes of both: four standard errors.
"""

import importlib
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from openmlops.core.gate.rules import RULES
from openmlops.core.monitoring.drift_reference import DRAWS, SHRINKAGE, WINDOW_SIZES, DriftReference, calibrate

DOCS = Path(__file__).parent.parent / "docs"
GATE, DRIFT = (" ".join((DOCS / name).read_text().split()) for name in ("gate.md", "drift.md"))


def rows(page: str, columns: int) -> list[list[float]]:
    """The tables of numbers on a page, shares as shares."""
    found = [[cell.strip() for cell in line.strip("| ").split("|")] for line in (DOCS / page).read_text().splitlines()]
    return [[_number(cell) for cell in row] for row in found if len(row) == columns and re.fullmatch(r"[+-]?[\d.,]+", row[0])]


def _number(cell: str) -> float:
    value = float(cell.removesuffix(" %").replace(",", ""))
    return value / 100 if cell.endswith("%") else value


def differ_by_luck(stated: float, n: int, measured: float, m: int) -> bool:
    share = min(max((stated * n + measured * m) / (n + m), 1 / m), 1 - 1 / m)
    return abs(stated - measured) <= 4 * math.sqrt(share * (1 - share) * (1 / n + 1 / m))


@pytest.fixture(scope="module")
def plots() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("plots")
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def reference(plots: ModuleType) -> DriftReference:
    rows = plots.features(5000, plots.np.random.default_rng(5))
    return calibrate(plots.frame(rows), sizes=(50, 200), false_alarm_rate=plots.RATE)


def test_the_verdicts_on_the_page_are_those_of_the_gate(plots: ModuleType) -> None:
    stated = {gain: shares for gain, *shares in rows("gate.md", 4)}
    assert tuple(stated) == plots.GAINS
    for gain, shares in plots.gate_rates((-1.0, 0.0, 1.0), images=10_000, gates=120, seed=77).items():
        for on_page, measured in zip(stated[gain], shares.values(), strict=True):
            assert differ_by_luck(on_page, 1000, measured, 120), (gain, on_page, measured)


def test_the_page_promotes_equal_models_no_more_often_than_the_stated_rate_allows() -> None:
    (promoted,) = (shares[0] for gain, *shares in rows("gate.md", 4) if gain == 0)
    assert promoted <= RULES.alpha + 2 * math.sqrt(RULES.alpha * (1 - RULES.alpha) / 1000)


def test_the_page_states_how_many_more_labels_the_gate_requests(plots: ModuleType) -> None:
    asked = plots.labels_asked_for()
    assert f"an observed gain of 1.0 points requires {asked[1.0][2000]:,} more labels" in GATE
    assert f"no gain at all requires {asked[0.0][2000]:,}" in GATE
    assert asked[1.0][4000] is None


def test_what_fifty_challengers_lose_is_what_the_page_says(plots: ModuleType) -> None:
    lost = {remembers: plots.generations(50, remembers)[-1] for remembers in (True, False)}
    assert f"as the bar {lost[True]:.1f} points are lost in all" in GATE
    assert f"with the current champion alone {lost[False]:.1f}." in GATE
    assert lost[True] < 100 * RULES.margin < lost[False]


def test_the_rules_on_the_page_are_those_of_the_code() -> None:
    assert (RULES.alpha, RULES.confidence, RULES.margin, RULES.worthwhile, RULES.power) == (0.05, 0.95, 0.01, 0.005, 0.8)
    for said in (
        "The 5 % for a lucky",
        "interval (95 %)",
        "below minus 1 point",
        "a gain of 0.5 points",
        "probability of 80 %",
    ):
        assert said in GATE
    sizes = ", ".join(map(str, WINDOW_SIZES[:-1])) + f" and {WINDOW_SIZES[-1]}"
    assert f"{DRAWS:,} windows of each of {sizes} rows" in DRIFT.replace("1,000", "1000")
    assert f"{SHRINKAGE:g} of it replaced by the identity" in DRIFT
    assert f"fewer than {WINDOW_SIZES[0]} distinct rows" in DRIFT


def test_the_false_alarms_on_the_page_are_at_most_the_stated_rate(plots: ModuleType, reference: DriftReference) -> None:
    stated = {int(size): share for size, share in rows("drift.md", 2)}
    assert tuple(stated) == WINDOW_SIZES
    assert max(stated.values()) <= plots.RATE
    (measured,) = plots.power(reference, 200, (0.0,), windows=300)
    assert differ_by_luck(stated[200], 1200, measured, 300)


def test_the_power_on_the_page_is_found_again(plots: ModuleType, reference: DriftReference) -> None:
    stated = {shift: shares for shift, *shares in rows("drift.md", 4)}
    assert tuple(stated) == plots.SHIFTS
    small, middle = (plots.power(reference, size, (0.3,), windows=150)[0] for size in (50, 200))
    assert differ_by_luck(stated[0.3][0], 400, small, 150)
    assert differ_by_luck(stated[0.3][1], 400, middle, 150)
    assert all(list(shares) == sorted(shares) for shares in stated.values()), "a larger window sees more"


def test_a_share_that_luck_does_not_explain_is_told() -> None:
    assert differ_by_luck(0.05, 1000, 0.06, 100)
    assert not differ_by_luck(0.84, 1000, 0.6, 100)


@pytest.mark.parametrize("path", sorted((DOCS / "pictures").glob("*.svg")), ids=lambda path: path.name)
def test_a_plot_is_small_and_shows_on_dark_and_on_light(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 60_000
    assert not re.search(r"(?:fill|stroke)[:=][\"' ]*(?:#fff(?:fff)?|#000(?:000)?|white|black)\b", text)
    assert re.findall(r"(?:href|src)=\"(?!#)[^\"]+|url\((?!#)[^)]+|@import", text) == [], "loaded from elsewhere"
