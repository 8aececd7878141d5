"""A regularised linear head on features: multinomial logistic regression, its strength chosen on the validation images.

The problem is convex, so the solution is the same whatever it starts from; strengths are tried from strong to weak, each from
the solution of the one before. What is not here: the features (features.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

STRENGTHS = tuple(10.0 ** (3 - step / 2) for step in range(15))
"""weight decay (L2) of standardised features, from strong to weak"""
WORSE = 3
"""weaker strengths without a lower validation loss after which none is tried any more"""
ITERATIONS = 200
"""most iterations of L-BFGS for one strength"""
ROUGH, EXACT = (1e-5, 1e-3), (1e-7, 1e-5)
"""relative change of the loss, and largest gradient, at which a solution is good enough to compare strengths, and to keep"""
FLAT = 1e-7
"""share of the largest variance up to which an axis has none"""
FOLDS = 5
ROWS = 1024
"""rows of which a copy in double precision is held at a time"""
FEW = 500
"""validation images from which on they alone choose the strength"""


@dataclass(frozen=True)
class Features:
    """Features float32 (n, d) with labels int64 (n,) of classes 0 to `classes` - 1."""

    x: torch.Tensor
    y: torch.Tensor
    classes: int

    def rows(self, rows: np.ndarray) -> "Features":
        """These rows."""
        chosen = torch.from_numpy(rows)
        return Features(self.x[chosen], self.y[chosen], self.classes)


@dataclass(frozen=True)
class LinearHead:
    """Logits are `x @ weight.T + bias`. The loss is the mean cross-entropy in nats."""

    weight: torch.Tensor
    """float32 (classes, d)"""
    bias: torch.Tensor
    """float32 (classes,)"""
    strength: float

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Features (n, d) -> logits (n, classes)."""
        return x @ self.weight.T + self.bias

    def loss(self, found: Features) -> float:
        """The mean cross-entropy in nats."""
        return F.cross_entropy(self.logits(found.x), found.y).item()

    def hits(self, found: Features) -> torch.Tensor:
        """bool (n,): which rows are classified correctly."""
        return self.logits(found.x).argmax(1) == found.y


@dataclass(frozen=True)
class _Basis:
    """Coordinates in which features are centred, of one scale, and uncorrelated. The scale is the same for all columns and the
    axes are orthogonal, so that distances, and with them the solution, are those of the features."""

    mean: torch.Tensor
    std: torch.Tensor
    axes: torch.Tensor
    """float32 (d, k), k <= min(n, d)"""
    variances: torch.Tensor
    """float32 (k,)"""

    @classmethod
    def of(cls, x: torch.Tensor) -> "_Basis":
        (n, width), mean = x.shape, x.mean(0)
        if width <= n:
            covariance = covariance_of(x, mean)
            std = covariance.diagonal().mean().sqrt().clamp_min(1e-12).float()
            variances, vectors = torch.linalg.eigh(covariance / std.double() ** 2)
            centred = None
        else:
            std = ((x - mean) ** 2).mean().sqrt().clamp_min(1e-12)
            centred = ((x - mean) / std).double()
            variances, vectors = torch.linalg.eigh(centred @ centred.T / n)
        kept = variances > FLAT * variances.max().clamp_min(1e-300)
        variances, vectors = variances[kept], vectors[:, kept]
        axes = vectors if centred is None else centred.T @ vectors / (n * variances).sqrt()
        return cls(mean, std, axes.float(), variances.float())

    def coordinates(self, found: Features) -> Features:
        """Features (n, d) -> the same images as (n, k)."""
        x = torch.cat([(part - self.mean) / self.std @ self.axes for part in found.x.split(ROWS)])
        return Features(x, found.y, found.classes)

    def back(self, head: LinearHead) -> LinearHead:
        """The head on coordinates as one on features."""
        weight = head.weight @ self.axes.T / self.std
        return LinearHead(weight, head.bias - weight @ self.mean, head.strength)


def covariance_of(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """The covariance float64 (d, d) of features (n, d) around `mean` (d,), which is theirs."""
    parts = (part.double() - mean for part in x.split(ROWS))
    return sum((part.T @ part for part in parts), x.new_zeros((x.shape[1],) * 2, dtype=torch.float64)) / len(x)


def fit(train: Features, validation: Features, weights: torch.Tensor, seed: int) -> LinearHead:
    """The head with the lowest loss on the validation images and, where there are few, on training images held out in FOLDS.

    `weights` float32 (classes,): what a class counts in the training loss. Strengths are compared on held-out training images
    too because a few dozen validation images choose almost at random.
    """
    basis = _Basis.of(train.x)
    known, judged = basis.coordinates(train), basis.coordinates(validation)
    parts = list(_folds(known, seed)) if len(validation.y) < FEW else []
    starts: list[np.ndarray | None] = [None] * (1 + len(parts))
    best: tuple[float, LinearHead, np.ndarray | None] | None = None
    worse = 0
    for strength in STRENGTHS:
        head, starts[0] = _head(known, basis, weights, strength, starts[0])
        loss = head.loss(judged) * len(judged.y)
        for number, (rest, held) in enumerate(parts, start=1):
            other, starts[number] = _head(known.rows(rest), basis, weights, strength, starts[number])
            loss += other.loss(known.rows(held)) * len(held)
        if best is None or loss < best[0]:
            best, worse = (loss, head, starts[0]), 0
        else:
            worse += 1
        if worse == WORSE:
            break
    assert best is not None
    head, _ = _head(known, basis, weights, best[1].strength, best[2], EXACT)
    return basis.back(head)


def out_of_fold(train: Features, weights: torch.Tensor, strength: float, seed: int) -> int:
    """How many training images are classified correctly by a head that was trained on the others, in FOLDS parts."""
    basis = _Basis.of(train.x)
    known = basis.coordinates(train)
    heads = ((_head(known.rows(rest), basis, weights, strength, None)[0], held) for rest, held in _folds(known, seed))
    return sum(int(head.hits(known.rows(held)).sum()) for head, held in heads)


def _folds(found: Features, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows that are trained on and those held out, FOLDS times; images of every class are spread over all parts."""
    draw = np.random.default_rng(seed)
    mixed = draw.permutation(len(found.y))
    order = mixed[np.argsort(found.y.numpy()[mixed], kind="stable")]
    for number in range(min(FOLDS, len(order) - 1)):
        held = order[number::FOLDS]
        yield np.setdiff1d(order, held), held


def _head(
    train: Features,
    basis: _Basis,
    weights: torch.Tensor,
    strength: float,
    start: np.ndarray | None,
    tolerance: tuple[float, float] = ROUGH,
) -> tuple[LinearHead, np.ndarray]:
    """The head on coordinates `train` in `basis`, and its weights and biases float64 (classes * (k + 1),).

    Each coordinate is scaled by about the curvature that the loss has along it, so that a few dozen steps are enough.
    """
    n, width = train.x.shape
    counted = weights[train.y] / weights[train.y].sum()
    target = F.one_hot(train.y, train.classes).float()
    decay = strength / basis.axes.shape[0]
    scale = (basis.variances / train.classes + decay).rsqrt()

    def loss_and_gradient(packed: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.from_numpy(packed).float().view(train.classes, width + 1)
        weight, bias = values[:, :-1] * scale, values[:, -1]
        logprobs = F.log_softmax(train.x @ weight.T + bias, dim=1)
        loss = -(counted * logprobs[torch.arange(n), train.y]).sum().double() + decay / 2 * (weight.double() ** 2).sum()
        error = counted[:, None] * (logprobs.exp() - target)
        gradient = torch.cat([(error.T @ train.x + decay * weight) * scale, error.sum(0)[:, None]], dim=1)
        return loss.item(), gradient.double().flatten().numpy()

    def packed(weight: torch.Tensor, bias: torch.Tensor) -> np.ndarray:
        found: np.ndarray = torch.cat([weight / scale, bias[:, None]], dim=1).double().flatten().numpy()
        return found

    first = np.zeros((train.classes, width + 1)) if start is None else start
    begun = torch.from_numpy(first).float().view(train.classes, width + 1)
    found = minimize(
        loss_and_gradient,
        packed(begun[:, :-1], begun[:, -1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": tolerance[0], "gtol": tolerance[1]},
    )
    values = torch.from_numpy(found.x).float().view(train.classes, width + 1)
    weight, bias = values[:, :-1] * scale, values[:, -1]
    return LinearHead(weight, bias, strength), torch.cat([weight, bias[:, None]], dim=1).double().numpy()
