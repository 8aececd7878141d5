"""Each defect is named at its line, and the honest twin of each is not accused. The pairs are the claim."""

from pathlib import Path

import pytest
from pairs import PAIRS
from reading import marked, read, said
from readme_pairs import FILES, LIES, TRUTH

from openmlops.adoption.examination import RULES
from openmlops.adoption.findings import DEFECTS


@pytest.mark.parametrize(("path", "defect", "honest"), [one[1:] for one in PAIRS], ids=[one[0] for one in PAIRS])
def test_the_defect_is_named_at_its_line_and_its_honest_twin_is_not_accused(
    tmp_path: Path, path: str, defect: str, honest: str
) -> None:
    assert marked({path: defect}) != []
    assert said(read(tmp_path / "defect", {path: defect})) == marked({path: defect})
    assert said(read(tmp_path / "honest", {path: honest})) == []


def test_what_a_readme_says_is_compared_with_the_files(tmp_path: Path) -> None:
    lies, truth = {**FILES, "README.md": LIES}, {**FILES, "README.md": TRUTH}
    assert said(read(tmp_path / "lies", lies)) == marked(lies)
    assert said(read(tmp_path / "truth", truth)) == []


def test_every_rule_has_a_pair_and_every_defect_a_rule() -> None:
    tried = {place[2] for _, path, defect, _ in PAIRS for place in marked({path: defect})} | {"readme-contradicted"}
    assert tried == {rule.name for rule in RULES}
    assert {rule.defect for rule in RULES} == set(DEFECTS)
