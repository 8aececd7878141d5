"""The demo's report: one HTML file without external resources, with inline SVG plots."""

import io
from html import escape
from typing import Any

from openmlops.core.types import LedgerEntry
from openmlops.demo.telling import DemoOutcome, Story

COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")
"""one per version, cyclically; versions also differ by marker"""
MARKERS = ("o", "s", "^", "D")

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #059669; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.2rem }
figure { margin: 1rem 0; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem }
figure svg { width: 100%; height: auto }
.numbers { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none }
.numbers li { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .9rem }
.numbers b { display: block; font-size: 1.5rem }
table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--soft) }
td.topic { white-space: nowrap; font-weight: 600 } .ok { color: var(--good) } code { font-size: .9em }
"""


def render(story: Story, outcome: DemoOutcome) -> str:
    """The HTML of the report."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>OpenMLOps demo: one run of the loop</title><style>{STYLE}</style></head><body>
<h1>One run of the loop</h1>
<p>A model was trained, served and monitored; the camera degraded; the loop detected drift, retrained and replaced the
model. Every statement below was verified during the run, which took {outcome.seconds:.0f} seconds.</p>
{_numbers(outcome)}
<h2>What happened</h2>
<table><tbody>{"".join(_line(line.topic, line.text) for line in story.lines)}</tbody></table>
<h2>{escape(_of(story.metric))} over time</h2>
<p>For every 100 images that clients sent, by serving version.</p>
<figure>{_accuracy(story)}</figure>
<h2>Drift statistic against its threshold</h2>
<p>Each window of predictions against the reference of the serving version. The threshold was calibrated when that version
was registered, at a false-alarm rate of 1 % per window.</p>
<figure>{_drift(story)}</figure>
{_windows(story)}
<h2>The ledger</h2>
<p>Append-only; each row holds the hash of the previous one. It is the only record of which version is in production.</p>
{_ledger(story.ledger)}
</body></html>
"""


def _numbers(outcome: DemoOutcome) -> str:
    shown = (
        (f"{outcome.accuracy.clean:.1%}", f"{_of(outcome.metric)} on clean traffic"),
        (f"{outcome.accuracy.degraded:.1%}", "after the camera degraded"),
        (f"{outcome.accuracy.recovered:.1%}", "after the retraining"),
        (str(outcome.failed_requests), f"of {outcome.answered_requests} requests failed"),
        (str(outcome.lost_records), "records lost"),
    )
    return '<ul class="numbers">' + "".join(f"<li><b>{value}</b>{escape(what)}</li>" for value, what in shown) + "</ul>"


def _of(metric: str) -> str:
    return "Accuracy" if metric == "accuracy" else metric


def _line(topic: str, text: str) -> str:
    return f'<tr><td class="ok" aria-label="checked">✓</td><td class="topic">{escape(topic)}</td><td>{escape(text)}</td></tr>'


def _windows(story: Story) -> str:
    rows = "".join(
        f"<tr><td>{point.part}</td><td>{point.version}</td><td>{escape(point.outcome.replace('_', ' '))}</td>"
        f"<td>{point.statistic:.1f}</td><td>{point.threshold:.1f}</td><td>{escape(', '.join(point.moved))}</td>"
        f"<td>{escape(point.action.replace('_', ' '))}</td></tr>"
        for point in story.drift
    )
    head = "<th>traffic<th>version<th>result<th>statistic<th>threshold<th>largest shifts<th>decision"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _ledger(entries: tuple[LedgerEntry, ...]) -> str:
    rows = "".join(
        f"<tr><td>{e.sequence}</td><td>{e.at:%H:%M:%S}</td><td>{e.kind}</td><td>{e.version}</td><td>{e.champion or 'none'}</td>"
        f"<td>{escape(' '.join(e.reasons))}</td><td><code>{e.dataset[:10]}</code></td><td><code>{e.hash[:10]}</code></td></tr>"
        for e in entries
    )
    head = "<th>#<th>time (UTC)<th>event<th>version<th>champion<th>reasons<th>data<th>hash"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _accuracy(story: Story) -> str:
    axes, figure = _axes(_of(story.metric))
    start = story.accuracy[0].at
    for number, version in enumerate(sorted({point.version for point in story.accuracy})):
        points = [point for point in story.accuracy if point.version == version]
        seconds = [(point.at - start).total_seconds() for point in points]
        style = {"color": COLOURS[number % 4], "marker": MARKERS[number % 4], "linestyle": ":"}
        axes.plot(seconds, [point.accuracy for point in points], label=f"version {version}", **style)
    for part in ("degraded", "recovered"):
        first = next(point for point in story.accuracy if point.part == part)
        at = (first.at - start).total_seconds()
        axes.axvline(at, color="0.6", linewidth=1)
        axes.annotate(
            {"degraded": "camera degrades"}.get(part, "only version 2"), (at, 0.03), xytext=(4, 0), textcoords="offset points"
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("seconds since the first request")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    return _svg(figure)


def _drift(story: Story) -> str:
    axes, figure = _axes("statistic (log scale)")
    windows = range(len(story.drift))
    axes.bar(windows, [point.statistic for point in story.drift], width=0.5, color=COLOURS[0], label="statistic")
    for number, point in enumerate(story.drift):
        label = "calibrated threshold" if number == 0 else None
        axes.plot((number - 0.4, number + 0.4), (point.threshold, point.threshold), color="#dc2626", linewidth=2, label=label)
    axes.set_yscale("log")
    axes.set_xticks(list(windows), [f"{point.part}\nversion {point.version}" for point in story.drift])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    return _svg(figure)


def _axes(label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    return axes, figure


def _svg(figure: Any) -> str:
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue().partition("<svg")[1] + content.getvalue().partition("<svg")[2]
