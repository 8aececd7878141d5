"""Runs all rules on one project, and reports which had nothing to check. Nothing is imported, run or changed."""

import re
from collections.abc import Iterator
from pathlib import Path

from openmlops.adoption import (
    caching,
    exit_codes,
    logged_metrics,
    one_batch,
    passwords,
    pixels,
    promotions,
    readme,
    selection,
    verdicts,
)
from openmlops.adoption.findings import Finding, Hit, NotLookedFor, Report, Rule
from openmlops.adoption.project import Project, read_project

RULES: tuple[Rule, ...] = (
    one_batch.RULE,
    verdicts.FORCED,
    pixels.RULE,
    caching.RULE,
    promotions.UNGATED,
    promotions.UNMEASURED,
    exit_codes.UNREAD,
    exit_codes.IGNORED,
    logged_metrics.REFUSED,
    selection.RULE,
    readme.RULE,
    passwords.DEFAULT,
    passwords.PORTS,
    verdicts.SWALLOWED,
    logged_metrics.MADE_UP,
)
IGNORE = re.compile(r"openmlops:\s*ignore\[([\w\s,-]+)\]")


def examine_project(root: Path) -> Report:
    """Read the project in the folder `root` and report the findings of all rules. Raises DataError if it is not a folder."""
    project = read_project(root)
    found, silenced = [], 0
    for rule in RULES:
        for hit in _one_a_line(rule.look(project)):
            if _is_silenced(project, rule, hit):
                silenced += 1
            else:
                found.append(_finding(rule, hit))
    return Report(
        project=str(root),
        files=len(project.texts),
        unreadable=tuple(sorted(set(project.unreadable))),
        left_out=tuple(project.left_out),
        findings=tuple(sorted(found, key=lambda one: (one.certainty != "sure", one.defect, one.path, one.line))),
        silenced=silenced,
        not_looked_for=tuple(_not_looked_for(project)),
    )


def _one_a_line(hits: Iterator[Hit]) -> list[Hit]:
    """One hit per line, preferably a sure one."""
    found: dict[tuple[str, int], Hit] = {}
    for hit in sorted(hits, key=lambda hit: hit.certainty != "sure"):
        found.setdefault((hit.path, hit.line), hit)
    return list(found.values())


def _finding(rule: Rule, hit: Hit) -> Finding:
    return Finding(
        rule=rule.name,
        defect=rule.defect,
        certainty=hit.certainty,
        path=hit.path,
        line=hit.line,
        says=hit.says,
        means=rule.means,
        remedy=rule.remedy,
    )


def _is_silenced(project: Project, rule: Rule, hit: Hit) -> bool:
    """Whether the line has `openmlops: ignore[...]` with the rule's name."""
    text = next(text for text in project.texts if text.path == hit.path)
    line = text.lines[hit.line - 1] if hit.line <= len(text.lines) else ""
    return any(rule.name in re.split(r"[\s,]+", names) for names in IGNORE.findall(line))


def _not_looked_for(project: Project) -> Iterator[NotLookedFor]:
    for rule in RULES:
        if not rule.applies(project):
            yield NotLookedFor(rule=rule.name, defect=rule.defect, why=rule.subject)
