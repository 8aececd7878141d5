"""Which answers labels are asked for, and what the labels that came say about all answers.

A request is drawn from all answers of its window. First a simple random sample of them: it stands for all of them by itself.
Then, from an order that does not look at that sample, the least certain ones. Every answer thus has a known probability of
being asked about, and a label counts with the inverse of it. Not here: the interval of a weighted score (`core.intervals`,
`core.detection.evaluation`), and where draws are stored (`adapters.label_draws`).

Three strata: answers that had a `known` label when the request was drawn, all of which count; the `uncertain` ones, all of
which are asked about; and the `rest`, of which the random sample is asked about. Whatever was drawn at random among the
uncertain ones belongs to both. The uncertain stratum ends at the answer that completes the number asked for: a stopping rule
that knows the random sample only up to there, so that the sample of the rest is a simple random one.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from openmlops.core.intervals import Strata
from openmlops.core.monitoring.observed import Drawn, WorthLabelling

LEAST = 5
"""fewest labels of a stratum that stand for its other answers"""
COPY = 0.1
"""two answers are near copies if their features are closer than this share of the window's largest distances"""
CLUSTER = 1 / 3
"""answers are of one cluster if their features are closer to its first than this share"""
LARGE = 0.95
"""the quantile of the distances that counts as the largest"""
POOL = 3
"""the uncertain answers are chosen among this many times as many, so that they differ"""
_COMPARED = 1500
"""answers whose distances are computed at most"""


class Request(NamedTuple):
    """What a request asks for, and the draw that it comes from: every answer of the window."""

    labels: WorthLabelling
    draw: tuple[Drawn, ...]


class Counted(NamedTuple):
    """The labelled answers that stand for all: their rows int64 (k,), and their strata."""

    rows: np.ndarray
    strata: Strata


def seed_of(decision: str) -> int:
    """The seed of a request's draw, from the id of its decision: a repeated attempt draws the same, another request another."""
    return int.from_bytes(hashlib.sha256(decision.encode()).digest()[:8])


def draw_request(ids: Sequence[str], known: np.ndarray, order: np.ndarray, k: int, seed: int) -> Request:
    """Draw at most `k` of the answers with these ids (n,) whose label is not `known` (bool (n,)): half of them at random, the
    other half in the `order` int64 (m,) of all rows without a known label (`least_certain`)."""
    rng, open_rows = np.random.default_rng(seed), np.flatnonzero(~known)
    if not len(open_rows) or k <= 0:
        return Request(WorthLabelling(), ())
    wanted = min(k, len(open_rows))
    random = rng.permutation(open_rows)[: wanted - wanted // 2]
    labelled = np.flatnonzero(known)
    alike = rng.permutation(labelled)[: round(len(labelled) * len(random) / len(open_rows))]
    is_random = np.isin(np.arange(len(ids)), np.concatenate([random, alike]))
    reached = int(np.searchsorted(np.cumsum(~is_random[order]), wanted // 2)) + 1 if wanted // 2 else 0
    is_uncertain = np.isin(np.arange(len(ids)), order[:reached])
    rest = ~known & ~is_uncertain
    share = float((is_random & rest).sum() / max(rest.sum(), 1))
    strata = np.where(known, "known", np.where(is_uncertain, "uncertain", "rest")).tolist()
    columns = (ids, strata, is_random.tolist(), np.where(rest, share, 1.0).tolist())
    draw = tuple(itertools.starmap(Drawn, zip(*columns, strict=True)))
    uncertain = [row for row in order[:reached].tolist() if not is_random[row]]
    return Request(
        WorthLabelling(uncertain=tuple(ids[row] for row in uncertain), random=tuple(ids[row] for row in random)), draw
    )


def least_certain(margins: np.ndarray, features: np.ndarray, copies: Sequence[object], k: int) -> np.ndarray:
    """All rows int64 (n,), those worth a label first: the least certain by `margins` (n,), but different ones.

    Of near copies (equal `copies` (n,), or nearly equal `features` float (n, columns)) the first counts, the others come last.
    Among the least certain the clusters of similar answers take turns.
    """
    by_margin = np.argsort(margins, kind="stable").tolist()
    first = {copies[row]: row for row in reversed(by_margin)}
    distinct = [row for row in by_margin if first[copies[row]] == row]
    again = [row for row in by_margin if first[copies[row]] != row]
    places, scale = _places(features)
    if scale == 0:
        return np.array([*distinct, *again], np.int64)
    near = _led(places, distinct[:_COMPARED], COPY * scale)
    kept = [row for row in distinct if near.get(row, row) == row]
    pool, clusters = kept[: POOL * k], _led(places, kept[: POOL * k], CLUSTER * scale)
    turns = _turns([clusters[row] for row in pool])
    chosen = [row for _, row in sorted(zip(turns, pool, strict=True), key=lambda each: each[0])]
    rest = [*kept[POOL * k :], *(row for row in distinct if near.get(row, row) != row)]
    return np.array([*chosen, *rest, *again], np.int64)


def counted(
    draws: Sequence[Mapping[str, Drawn]], ids: Sequence[str], labelled: np.ndarray, least: int = LEAST
) -> Counted | None:
    """The labels that stand for all answers of the requests `draws` (newest first) among those with these ids (n,), of which
    `labelled` (bool (n,)) have a label.

    An answer belongs to the newest request that drew it. While that one's labels are still missing, the one before counts.
    None if no request has enough: `least` in all, LEAST of each stratum. A stratum that is labelled completely counts all its
    labels, whoever gave them; of the rest of a request only the random sample does: what came of itself there is no sample.
    """
    for newest in range(len(draws)):
        found = _counted(draws[newest:], ids, labelled)
        if found and len(found.rows) >= least:
            return found
    return None


def not_for_doubt(
    draws: Sequence[Mapping[str, Drawn]], ids: Sequence[str], labelled: np.ndarray, requested: Set[str] = frozenset()
) -> np.ndarray:
    """bool (n,): labelled answers that no request asked about for being uncertain: labels that came of themselves, and random
    samples too small to stand for all. `requested`: ids of uncertain answers whose draw was not stored (earlier releases)."""
    doubtful = {name for draw in draws for name, each in draw.items() if each.stratum == "uncertain" and not each.at_random}
    return labelled & ~np.array([name in doubtful or name in requested for name in ids], bool)


def _counted(draws: Sequence[Mapping[str, Drawn]], ids: Sequence[str], labelled: np.ndarray) -> Counted | None:
    members: dict[tuple[int, str], list[int]] = {}
    at_random = np.zeros(len(ids), bool)
    for row, name in enumerate(ids):
        number = next((number for number, draw in enumerate(draws) if name in draw), None)
        if number is not None:
            members.setdefault((number, draws[number][name].stratum), []).append(row)
            at_random[row] = draws[number][name].at_random
    rows, of, sizes = [], [], []
    for stratum, (key, found) in enumerate(members.items()):
        there = np.array(found, np.int64)
        counting = there[labelled[there]]
        if len(counting) < len(there) and key[1] == "rest":
            counting = counting[at_random[counting]]
        if len(counting) < min(LEAST, len(there)):
            return None
        rows.append(counting)
        of.append(np.full(len(counting), stratum))
        sizes.append(len(there))
    if not rows:
        return None
    return Counted(np.concatenate(rows), Strata(np.concatenate(of), np.array(sizes, np.float64)))


def _places(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Standardised features (n, columns that vary), and the large distances between them; 0 if all are alike."""
    spread = features.std(axis=0) if features.size else np.zeros(0)
    varying = np.isfinite(spread) & (spread > 0)
    if not varying.any():
        return np.zeros((len(features), 0)), 0.0
    places = ((features[:, varying] - features[:, varying].mean(axis=0)) / spread[varying]).astype(np.float64)
    some = places[:: max(1, len(places) // 300)]
    distances = np.linalg.norm(some[:, None] - some[None], axis=2)
    return places, float(np.quantile(distances[np.triu_indices(len(some), 1)], LARGE)) if len(some) > 1 else 0.0


def _led(places: np.ndarray, rows: Sequence[int], radius: float) -> dict[int, int]:
    """The leader of each row, in their order: the first leader within `radius`, or itself."""
    leaders: list[int] = []
    found = {}
    for row in rows:
        near = (np.linalg.norm(places[leaders] - places[row], axis=1) <= radius).tolist()
        found[row] = leaders[near.index(True)] if True in near else row
        if found[row] == row:
            leaders.append(row)
    return found


def _turns(clusters: Sequence[int]) -> list[int]:
    """For each member the number of earlier members of its cluster."""
    seen: dict[int, int] = {}
    turns = []
    for cluster in clusters:
        turns.append(seen.get(cluster, 0))
        seen[cluster] = turns[-1] + 1
    return turns
