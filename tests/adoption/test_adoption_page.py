"""docs/adoption.md read back: its table of rules and its list of defects are the code's."""

import re
from pathlib import Path

from openmlops.adoption.examination import RULES
from openmlops.adoption.findings import DEFECTS

PAGE = (Path(__file__).parents[2] / "docs" / "adoption.md").read_text()


def test_the_table_of_rules_is_the_rules() -> None:
    table = re.findall(r"^\| `([\w-]+)` \| (\d+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert table == [(rule.name, str(rule.defect), rule.seen, rule.remedy) for rule in RULES]


def test_the_list_of_defects_is_theirs() -> None:
    assert re.findall(r"^(\d+)\. (.+)$", PAGE, re.MULTILINE) == [(str(number), text) for number, text in DEFECTS.items()]
