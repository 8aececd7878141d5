"""Output of `openmlops doctor PROJECT`: findings by file and line, then what was not checked."""

from itertools import groupby

import typer

from openmlops.adoption.findings import DEFECTS, Finding, Report
from openmlops.cli.show import print_json
from openmlops.errors import one_line
from openmlops.terminal import say

MAX_NAMED = 3


def print_report(report: Report, json: bool) -> None:
    """Print findings to standard output, what was not checked to standard error; exit code 1 if a defect is sure."""
    if json:
        print_json(report)
    else:
        _report(report)
    if report.defects:
        raise typer.Exit(1)


def _report(report: Report) -> None:
    for _, group in groupby(report.findings, key=lambda one: (one.certainty, one.rule)):
        _print_rule(list(group))
    looks = len(report.findings) - report.defects
    counts = f"{_count(report.defects, 'defect')}, {_count(looks, 'place')} to review, {report.silenced} suppressed"
    say(f"{_count(report.files, 'file')} read: {counts}.")
    if report.unreadable:
        say(f"{_count(len(report.unreadable), 'file')} could not be read: {_names(report.unreadable)}.")
    if report.left_out:
        say(f"Skipped as too large to be source: {_names(report.left_out)}.")
    for missing in report.not_looked_for:
        say(f"Not checked: {DEFECTS[missing.defect]} ({missing.rule}), because {missing.why} was found.")


def _print_rule(findings: list[Finding]) -> None:
    """Print the places of one rule, one per line, then their meaning and remedy once."""
    for finding in findings:
        typer.echo(f"{finding.certainty:<6}{finding.rule:<21}" + one_line(f"{finding.path}:{finding.line}: {finding.says}"))
    typer.echo(f"      {findings[0].means}. {findings[0].remedy}.")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _names(paths: tuple[str, ...]) -> str:
    rest = len(paths) - MAX_NAMED
    return one_line(", ".join(paths[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else ""))
