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
FOLDS = 5
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
class _Scale:
    """Standardisation: the same for all columns, so that distances between features are kept."""

    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> "_Scale":
        mean = x.mean(0)
        return cls(mean, ((x - mean) ** 2).mean().sqrt().clamp_min(1e-12))

    def back(self, weight: torch.Tensor, bias: torch.Tensor, strength: float) -> LinearHead:
        """The head on features that are not standardised."""
        weight = weight / self.std
        return LinearHead(weight.float(), (bias - weight @ self.mean).float(), strength)


def fit(train: Features, validation: Features, weights: torch.Tensor, seed: int) -> LinearHead:
    """The head with the lowest loss on the validation images and, where there are few, on training images held out in FOLDS.

    `weights` float32 (classes,): what a class counts in the training loss. Strengths are compared on held-out training images
    too because a few dozen validation images choose almost at random.
    """
    parts = list(_folds(train, seed)) if len(validation.y) < FEW else []
    starts: list[np.ndarray | None] = [None] * (1 + len(parts))
    best: tuple[float, LinearHead] | None = None
    worse = 0
    for strength in STRENGTHS:
        head, starts[0] = _head(train, weights, strength, starts[0])
        loss = head.loss(validation) * len(validation.y)
        for number, (rest, held) in enumerate(parts, start=1):
            other, starts[number] = _head(rest, weights, strength, starts[number])
            loss += other.loss(held) * len(held.y)
        if best is None or loss < best[0]:
            best, worse = (loss, head), 0
        else:
            worse += 1
        if worse == WORSE:
            break
    assert best is not None
    return best[1]


def out_of_fold(train: Features, weights: torch.Tensor, strength: float, seed: int) -> int:
    """How many training images are classified correctly by a head that was trained on the others, in FOLDS parts."""
    return sum(int(_head(rest, weights, strength, None)[0].hits(held).sum()) for rest, held in _folds(train, seed))


def _folds(found: Features, seed: int) -> Iterator[tuple[Features, Features]]:
    """What is trained on and what is held out, FOLDS times; images of every class are spread over all parts."""
    draw = np.random.default_rng(seed)
    mixed = draw.permutation(len(found.y))
    order = mixed[np.argsort(found.y.numpy()[mixed], kind="stable")]
    for number in range(min(FOLDS, len(order) - 1)):
        held = order[number::FOLDS]
        yield found.rows(np.setdiff1d(order, held)), found.rows(held)


def _head(train: Features, weights: torch.Tensor, strength: float, start: np.ndarray | None) -> tuple[LinearHead, np.ndarray]:
    scale = _Scale.of(train.x)
    solution = _solve(train, scale, weights, strength, start)
    return _unpacked(solution, train, scale, strength), solution


def _unpacked(found: np.ndarray, train: Features, scale: _Scale, strength: float) -> LinearHead:
    values = torch.from_numpy(found).float().view(train.classes, -1)
    return scale.back(values[:, :-1], values[:, -1], strength)


def _solve(train: Features, scale: _Scale, weights: torch.Tensor, strength: float, start: np.ndarray | None) -> np.ndarray:
    """Weights and biases, float64 (classes * (d + 1),)."""
    n, width = train.x.shape
    x = (train.x - scale.mean) / scale.std
    counted = weights[train.y] / weights[train.y].sum()
    target = F.one_hot(train.y, train.classes).float()
    decay = strength / width

    def loss_and_gradient(packed: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.from_numpy(packed).float().view(train.classes, width + 1)
        weight, bias = values[:, :-1], values[:, -1]
        logprobs = F.log_softmax(x @ weight.T + bias, dim=1)
        loss = -(counted * logprobs[torch.arange(n), train.y]).sum().double() + decay / 2 * (weight.double() ** 2).sum()
        error = counted[:, None] * (logprobs.exp() - target)
        gradient = torch.cat([error.T @ x + decay * weight, error.sum(0)[:, None]], dim=1)
        return loss.item(), gradient.double().flatten().numpy()

    first = np.zeros(train.classes * (width + 1)) if start is None else start
    found = minimize(
        loss_and_gradient, first, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "gtol": 1e-5, "ftol": 1e-7}
    )
    solution: np.ndarray = found.x
    return solution
