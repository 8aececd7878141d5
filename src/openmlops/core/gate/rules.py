"""The gate: decides whether a challenger goes into production, from predictions on the same images to a verdict with reasons.

What is here: the comparison of two models, and the decision from several comparisons. What is not: logged metrics, which the
gate never reads, and the source of the predictions (`operations.release.gate`). All scores are in 0..1.

The rules, against the current champion and the best champion so far:
- not inferior to either of them on the frozen holdout by more than a stated margin. The best champion so far is included so
  that losses too small to be significant one by one cannot add up;
- better than the current champion on at least one evaluation set (the holdout, or a new slice of labelled images). The stated
  rate of false promotions covers all evaluation sets together (Holm).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from openmlops.core.gate.paired import exact_mcnemar, images_needed, score_interval
from openmlops.core.types import Comparison, Interval, Value, Verdict
from openmlops.errors import GateError


class GateRules(Value):
    """The gate's thresholds. Differences are in the unit of the score: 0.01 is one percentage point."""

    alpha: float = 0.05
    """significance level: share of challengers no better than the champion that may be promoted by chance"""
    confidence: float = 0.95
    """confidence level of the two-sided intervals; non-inferiority is decided by their lower bounds"""
    margin: float = 0.01
    """non-inferiority margin: the loss on the holdout, against the current or the best champion, that rejects a challenger"""
    worthwhile: float = 0.005
    """smallest gain worth a promotion; once it is ruled out, no more labels are requested"""
    power: float = 0.8
    """statistical power: probability with which the requested number of labels would settle the comparison"""


RULES = GateRules()


class Contender(Value):
    """A version at the gate, and its score on the holdout as measured there."""

    version: int
    sha256: str
    score: Interval


class _Finding(NamedTuple):
    outcome: Literal["promote", "reject", "inconclusive"]
    reason: str
    more_labels: int | None = None


def compare(
    name: str,
    challenger_correct: np.ndarray,
    opponent_correct: np.ndarray,
    opponent_version: int,
    holdout: bool,
    rules: GateRules = RULES,
) -> Comparison:
    """Correctness of two models' predictions, bool (n,) each, row i the same image -> the difference of their accuracies.

    `p_better` is the probability of a lead at least as large if both were equally good (exact McNemar, one-sided).
    `more_labels` is how many more images would establish a gain, None if it is established or a worthwhile one is ruled out.
    Raises GateError if the two arrays differ in length or are empty.
    """
    n = len(challenger_correct)
    if n == 0 or challenger_correct.shape != (n,) or opponent_correct.shape != (n,):
        problem = (
            f"{name}: the challenger has predictions of shape {challenger_correct.shape}, the opponent {opponent_correct.shape}"
        )
        raise GateError(problem, "Run both models on the same images, at least one")
    only_challenger = int(np.sum(challenger_correct & ~opponent_correct))
    only_opponent = int(np.sum(opponent_correct & ~challenger_correct))
    interval = score_interval(only_challenger, only_opponent, n, rules.confidence)
    compared = Comparison(
        name=name,
        opponent=opponent_version,
        holdout=holdout,
        n=n,
        challenger_score=int(challenger_correct.sum()) / n,
        opponent_score=int(opponent_correct.sum()) / n,
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_better=exact_mcnemar(only_challenger, only_opponent),
    )
    return compared.model_copy(update={"more_labels": more_labels(compared, rules)})


def more_labels(compared: Comparison, rules: GateRules = RULES) -> int | None:
    """How many more images would establish a gain; None if it is established, or a worthwhile one is ruled out."""
    is_settled = compared.p_better <= rules.alpha or compared.high < rules.worthwhile
    return None if is_settled else _to_show_gain(compared, rules, rules.alpha)


def decide(
    challenger: Contender,
    champion: Contender | None,
    comparisons: Sequence[Comparison],
    floor: float,
    rules: GateRules = RULES,
    floor_of: str = "always predicting the most frequent class",
) -> Verdict:
    """The verdict on a challenger.

    `comparisons` are the challenger's: with the champion on each evaluation set, and with the best champion so far on the
    holdout. `floor` is the score of the constant baseline that `floor_of` names; only a first champion is compared with it.
    Raises GateError if the challenger is the champion, or if a comparison that the rules need is missing or not its own.
    """
    if champion is None:
        finding = _decide_first(challenger, floor, floor_of)
    else:
        _require_honest(challenger, champion, comparisons)
        finding = _decide_against_champion(challenger, champion, comparisons, rules)
    return Verdict(
        outcome=finding.outcome,
        reasons=(finding.reason, *(_sentence(challenger, compared) for compared in comparisons)),
        challenger=challenger.version,
        champion=champion.version if champion else None,
        comparisons=tuple(comparisons),
        more_labels=finding.more_labels,
    )


def _decide_first(challenger: Contender, floor: float, floor_of: str) -> _Finding:
    score, is_above = challenger.score, challenger.score.low > floor
    reason = (
        f"There is no champion yet. Version {challenger.version} scores {_percent(score.value)}, with a lower bound of "
        f"{_percent(score.low)}, {'above' if is_above else 'not above'} the {_percent(floor)} of {floor_of}."
    )
    return _Finding("promote" if is_above else "reject", reason)


def _decide_against_champion(
    challenger: Contender, champion: Contender, comparisons: Sequence[Comparison], rules: GateRules
) -> _Finding:
    evaluation_sets = [compared for compared in comparisons if compared.opponent == champion.version]
    bars = [compared for compared in comparisons if compared.holdout]
    if worse := [c for c in bars if c.high < -rules.margin] or [c for c in evaluation_sets if not c.holdout and c.high < 0]:
        lost = f"{_difference(worse[0])} against version {worse[0].opponent} on {worse[0].name}"
        return _Finding("reject", f"Version {challenger.version} is worse: {lost}.")
    open_sets = [compared for compared in evaluation_sets if compared.high >= rules.worthwhile]
    if not open_sets:
        gain = f"A gain of {_points(rules.worthwhile)} over version {champion.version}"
        return _Finding("reject", f"{gain}, the smallest worth a promotion, is ruled out.")
    better = _better(evaluation_sets, rules.alpha)
    if not better:
        more = min(_to_show_gain(compared, rules, rules.alpha / len(evaluation_sets)) for compared in open_sets)
        return _Finding("inconclusive", f"The comparison is inconclusive; {_labels(more)}.", more)
    if undecided := [compared for compared in bars if compared.low <= -rules.margin]:
        more = max(_to_exclude_loss(compared, rules) for compared in undecided)
        loss = f"a loss of {_points(rules.margin)} against version {undecided[0].opponent} on {undecided[0].name}"
        return _Finding("inconclusive", f"Better on {better[0].name}, but {loss} cannot be ruled out; {_labels(more)}.", more)
    where = " and ".join(compared.name for compared in better)
    return _Finding("promote", f"Version {challenger.version} is better than version {champion.version} on {where}.")


def _require_honest(challenger: Contender, champion: Contender, comparisons: Sequence[Comparison]) -> None:
    """Raise GateError unless these are comparisons of this challenger, one of them with this champion on the holdout."""
    if challenger.version == champion.version or challenger.sha256 == champion.sha256:
        problem = f"Version {challenger.version} and the champion, version {champion.version}, are the same model"
        raise GateError(problem, "Train on other data or with another seed, and submit that version")
    if any(compared.opponent == challenger.version for compared in comparisons):
        raise GateError(f"Version {challenger.version} was compared with itself", "Compare it with the champions")
    direct = [compared for compared in comparisons if compared.holdout and compared.opponent == champion.version]
    if not direct:
        problem = f"No comparison with the champion, version {champion.version}, on the holdout"
        raise GateError(problem, "Run both models on the test split")
    compared = (direct[0].challenger_score, direct[0].opponent_score)
    if not np.allclose(compared, (challenger.score.value, champion.score.value), rtol=0, atol=1e-9):
        scores = " and ".join(map(_percent, compared))
        problem = f"{scores} on {direct[0].name} are not the scores of versions {challenger.version} and {champion.version}"
        raise GateError(problem, "Pass challenger and champion in this order, scored on the same predictions")


def _better(evaluation_sets: Sequence[Comparison], alpha: float) -> list[Comparison]:
    """The evaluation sets on which the challenger is significantly better, at a family-wise error rate of `alpha` (Holm)."""
    better: list[Comparison] = []
    for rank, compared in enumerate(sorted(evaluation_sets, key=lambda c: c.p_better)):
        if compared.p_better > alpha / (len(evaluation_sets) - rank):
            break
        better.append(compared)
    return better


def _to_show_gain(compared: Comparison, rules: GateRules, alpha: float) -> int:
    return _further(compared, max(compared.difference, rules.worthwhile), alpha, rules)


def _to_exclude_loss(compared: Comparison, rules: GateRules) -> int:
    return _further(compared, rules.margin + max(compared.difference, 0.0), (1 - rules.confidence) / 2, rules)


def _further(compared: Comparison, gap: float, alpha: float, rules: GateRules) -> int:
    interval = Interval(value=compared.difference, low=compared.low, high=compared.high)
    return max(1, images_needed(compared.n, interval, rules.confidence, gap, alpha, rules.power) - compared.n)


def _sentence(challenger: Contender, compared: Comparison) -> str:
    scores = f"{_percent(compared.challenger_score)} and version {compared.opponent} {_percent(compared.opponent_score)}"
    where = f"On {compared.name} ({compared.n:,} images) version {challenger.version} scores {scores}"
    return f"{where}: {_difference(compared)}, p = {compared.p_better:.2g}."


def _difference(compared: Comparison) -> str:
    return f"{100 * compared.difference:+.2f} points [{100 * compared.low:+.2f}, {100 * compared.high:+.2f}]"


def _points(share: float) -> str:
    return f"{100 * share:.2g} points"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _labels(more: int) -> str:
    return f"about {more:,} more labelled images are needed to decide"
