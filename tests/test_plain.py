"""Nothing that comes from data is obeyed by whoever renders a document of ours."""

import re
from pathlib import Path

import markdown
import numpy as np
import pandas as pd
import pytest

import openmlops
from openmlops.adapters.evidently_report import HTML, write_report
from openmlops.operations.monitoring import prediction_export
from openmlops.plain import harmless, in_markdown

PACKAGE = Path(openmlops.__file__).parent
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "a|b",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "`code`",
    "a\nb\n# c",
    "\\[x](y)",
    "=HYPERLINK(1)",
    "' onmouseover='alert(1)",
    "${alert(1)}",
    "{{7*7}}",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_text_and_does_not_obey_it(text):
    page = markdown.markdown(
        f"# Title\n\n- {in_markdown(text)}\n\n| a |\n|---|\n| {in_markdown(text)} |\n", extensions=["tables"]
    )
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= {"h1", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "p"}
    assert page.count("<td") == 1


def test_plain_names_stay_as_they_are():
    assert [in_markdown(name) for name in ("traffic_light", "cat", "Äpfel 2 (rot)")] == [
        "traffic_light",
        "cat",
        "Äpfel 2 (rot)",
    ]
    assert harmless(["image.brightness", "p(cat)"]) == {"image.brightness": "image.brightness", "p(cat)": "p(cat)"}


def test_different_names_stay_different():
    found = harmless(["a<", "a‹", "a‹ (2)", *HOSTILE])
    assert len(set(found.values())) == len(found)
    assert not re.search(r"[<>&\"'`\\{}\n]", "".join(found.values()))


def test_evidently_s_page_runs_no_script_of_a_class(tmp_path):
    draw = np.random.default_rng(0)
    names = [f"probability.{name}" for name in HOSTILE]
    frames = [pd.DataFrame({name: draw.normal(size=60) for name in names}) for _ in range(2)]
    report = write_report(*frames, tmp_path)
    page = (tmp_path / HTML).read_text()
    for part in ("<img src=x", "</script><script>alert(1)", "onmouseover='", "{{7*7}}", "${alert"):
        assert part not in page
    assert set(report.p_values) == set(names)


def test_no_table_is_written_that_a_spreadsheet_would_compute(tmp_path):
    """A cell that begins with =, +, - or @ is a formula to a spreadsheet; one module writes such a file, names as text."""
    writes = re.compile(r"import csv|to_csv\(|csv\.writer|to_excel\(")
    assert {path.stem for path in PACKAGE.rglob("*.py") if writes.search(path.read_text())} == {"prediction_export"}
    table = pd.DataFrame({"label": ["=1+1", "cat", None], "-score": [-1.5, 2.0, 3.0]})
    prediction_export._write_csv(file := tmp_path / "table.csv", iter([table]))
    assert file.read_text().splitlines() == ["label,'-score", "'=1+1,-1.5", "cat,2.0", ",3.0"]
