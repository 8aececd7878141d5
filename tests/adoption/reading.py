"""Write a small project, read it, and compare what is said with the marks in its texts."""

import re
from pathlib import Path

from openmlops.adoption.examination import examine_project
from openmlops.adoption.findings import Report

Place = tuple[str, int, str, str]
"""path, line, rule, certainty"""


def written(folder: Path, files: dict[str, str]) -> Path:
    """The folder, with these files in it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def said(report: Report) -> list[Place]:
    """Every finding as a place."""
    return sorted((one.path, one.line, one.rule, one.certainty) for one in report.findings)


def marked(files: dict[str, str]) -> list[Place]:
    """Every mark `<- RULE` in the texts as a place."""
    return sorted(
        (path, number, rule, "look" if doubt else "sure")
        for path, content in files.items()
        for number, line in enumerate(content.split("\n"), 1)
        for rule, doubt in re.findall(r"<- ([\w-]+\w)(\??)", line)
    )


def read(folder: Path, files: dict[str, str]) -> Report:
    """What is said of a project that holds these files."""
    return examine_project(written(folder, files))
