"""A detector's evaluation as a table of text."""

from openmlops.core.quality import DetectionEvaluation
from openmlops.core.types import Interval


def detection_report(evaluation: DetectionEvaluation) -> str:
    """The evaluation for a person; brackets are bootstrap intervals over images at 95 %."""
    width = max(len("all classes"), *(len(score.name) for score in evaluation.classes))
    lines = [f"{'':>{width}}  {'mAP@50':>8}  {'mAP@50-95':>9}  {'precision':>9}  {'recall':>8}  {'boxes':>6}", ""]
    for s in evaluation.classes:
        lines.append(f"{s.name:>{width}}  {s.map50:8.3f}  {s.map50_95:9.3f}  {s.precision:9.3f}  {s.recall:8.3f}  {s.boxes:6d}")
    lines += [""]
    for name, found in (
        ("mAP@50", evaluation.map50),
        ("mAP@50-95", evaluation.map50_95),
        ("precision", evaluation.precision),
        ("recall", evaluation.recall),
    ):
        lines.append(f"{name:>{width}}  {bracketed(found)}")
    lines += ["", f"precision and recall: boxes with a confidence of at least {evaluation.confidence:g}, IoU 0.5"]
    lines += [f"split: {evaluation.split} ({evaluation.n} images, {evaluation.boxes} boxes) {evaluation.split_fingerprint}"]
    return "\n".join(lines) + "\n"


def bracketed(found: Interval) -> str:
    """`0.812 [0.774, 0.845]`"""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
