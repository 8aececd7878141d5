"""The values that are passed between pipeline steps, to MLflow, over HTTP and printed by `--json`.

What is here: small frozen pydantic models that serialise to JSON and back. What is not: images, weights and arrays; those
stay in files, which the references name by their content (`DatasetRef`, `SplitsRef`, `TrainedRef`, `ExportRef`, `ModelRef`).
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from openmlops.errors import SettingsError, escaped

SOUNDS_SECRET = re.compile(r"password|passwd|secret|token|credential|(api|access|private)_?key", re.IGNORECASE)
"""names whose values are never logged"""
_STANDING = re.compile(r"(none|[0-9]{1,9})@([0-9]{1,9})")
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def model_name(text: str) -> str:
    """`text`, if it is a valid name of a registered model. Raises SettingsError.

    Such a name needs no escaping in a path, a URL, an MLflow filter or a shell, and cannot leave a folder.
    """
    if not _MODEL_NAME.fullmatch(text):
        problem = f"'{text[:80]}' is not a valid model name"
        raise SettingsError(problem, "Use at most 128 letters, digits, '.', '_' and '-', not starting with '.' or '-'")
    return text


class Value(BaseModel):
    """Base of all values: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Content(Value):
    """Something that steps hand on, by what it is and not by where it lies: its SHA-256. `kind` says what it is used as.

    Of a folder it is the SHA-256 of its manifest.
    """

    kind: Literal["index", "splits", "weights", "predictions", "export", "window", "report"]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Reference(Value):
    """Base of the values that name content. Those of earlier releases had a `path` on one machine, which is not read."""

    @model_validator(mode="before")
    @classmethod
    def _without_place(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if name != "path"} if isinstance(given, dict) else given

    @property
    def path(self) -> str:
        """Gone: raises AttributeError that says what gives the place of the content on this machine."""
        found = "openmlops.operations.data.versions.local" if isinstance(self, DatasetRef) else "workspace.contents.local"
        raise AttributeError(f"{type(self).__name__} has no path any more, because it names content: use {found}")


class Interval(Value):
    """An estimate with the bounds of its confidence interval, all in the unit of the estimate."""

    value: float
    low: float
    high: float


class HoldoutPower(Value):
    """What a test split of n images can decide. `score` is the score of a model there, measured or assumed. `images_needed` is
    how many test images the gate needs to promote a model that is truly `gain` better with probability `power`, if it disagrees
    with the champion on the share `disagreement` of the images (None for a detector)."""

    n: int
    score: Interval
    gain: float
    images_needed: int | None
    power: float
    disagreement: float | None = None


class DatasetRef(Reference):
    """One version of a data set. `fingerprint` is the SHA-256 of its manifest; `rows` counts images. `index` is what is known
    of the images, None if nobody has kept it."""

    name: str
    fingerprint: str
    rows: int
    index: Content | None = None


class Problem(Value):
    """One problem found by validation: `what`, `where` (a file), the first five `rows` and the total `count`.

    `altered`: something is used otherwise than it is written, or left out; such a problem blocks where `--strict` is given.
    `unused`: the files are left out of the data set for it, or ignored because they are no images. `files` are all of them,
    relative to the folder; they are not part of the JSON.
    """

    what: str
    where: str
    rows: tuple[int, ...] = ()
    count: int = 1
    blocking: bool = True
    altered: bool = False
    unused: Literal["", "left out", "ignored"] = ""
    files: tuple[str, ...] = Field((), exclude=True, repr=False)

    def __str__(self) -> str:
        said = escaped(f"{self.where}: {self.what}")
        if self.count == 1 and not self.rows:
            return said
        if self.count == 1:
            return f"{said} (row {self.rows[0]})"
        listed = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        return f"{said} ({self.count} in all{f', rows {listed}' if self.rows else ''})"


class Account(Value):
    """What became of the files of a folder: images `used`, images and other files `left_out`, files `ignored` because they are
    no images. `reasons` are sentences with the first five files and the number of all."""

    used: int
    left_out: int = 0
    ignored: int = 0
    reasons: tuple[str, ...] = ()
    kept_in: str = ""
    """the folder to which the files left out were moved, if they were in the data set's own folder"""

    @classmethod
    def of(cls, used: int, problems: Sequence[Problem], kept_in: str = "") -> "Account":
        """The account of `used` images and of the problems that leave files out."""
        found = [each for each in problems if each.unused]
        return cls(
            used=used,
            left_out=sum(each.count for each in found if each.unused == "left out"),
            ignored=sum(each.count for each in found if each.unused == "ignored"),
            reasons=tuple(map(str, found)),
            kept_in=kept_in,
        )

    def lines(self) -> list[str]:
        """The account as text, a line for each reason."""
        others = [f"{self.left_out} left out"] if self.left_out else []
        others += [f"{self.ignored} other files not read"] if self.ignored else []
        moved = [f"The files left out are now in {self.kept_in}"] if self.kept_in else []
        return [", ".join([f"{self.used} images used", *others]), *(f"- {reason}" for reason in self.reasons), *moved]


class ValidationReport(Value):
    """The result of validation. `passed` is False if any problem is blocking."""

    dataset: DatasetRef
    problems: tuple[Problem, ...] = ()
    class_counts: dict[str, int] = Field(default_factory=dict)
    account: Account | None = None

    @property
    def passed(self) -> bool:
        return not any(problem.blocking for problem in self.problems)


class SplitsRef(Reference):
    """Row indices of the three splits; `fingerprint` is the SHA-256 of the file that holds them."""

    dataset: DatasetRef
    fingerprint: str
    seed: int
    train: int
    validation: int
    test: int
    dropped: int = 0

    @property
    def content(self) -> Content:
        """The file of row indices."""
        return Content(kind="splits", sha256=self.fingerprint)


class Preprocessing(Value):
    """Normalisation in the model's first layer: mean and standard deviation per channel (RGB), in pixel units 0..255.

    `resize`: how images become the model's input: `crop` keeps their aspect ratio and cuts off what is too long; `default` is
    the use case's `to_model_input`.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["default", "crop"] = "default"


class CrossValidation(Value):
    """Out-of-fold score of `images` distinct images, each predicted by a model trained without it, in `folds` folds; its 95 %
    interval is corrected for models that share training images. `metric` is the name of the score."""

    folds: int
    images: int
    metric: str
    score: Interval


class TrainedRef(Reference):
    """A finished training: its weights (safetensors), its MLflow run, its data and its resolved configuration.
    `cross_validation` is of other models, trained alike; `kept` says which stage of the training the weights are of. One of an
    earlier release has no `weights`: they are the file of its run in OPENMLOPS_HOME."""

    weights: Content | None = None
    run_id: str
    splits: SplitsRef
    config: dict[str, int | float | str | bool | None]
    epochs: int
    seconds: float
    ended_at: datetime
    """when the training ended: the timestamp of its metrics, however often they are computed"""
    resumed: bool = False
    kept: str = ""
    cross_validation: CrossValidation | None = None


class ExportRef(Reference):
    """A folder with all files of one model version, sealed by `manifest.json`; `sha256` is that of the manifest."""

    sha256: str
    run_id: str
    parity: float

    @property
    def content(self) -> Content:
        """The folder."""
        return Content(kind="export", sha256=self.sha256)


class ModelRef(Value):
    """One registered version. `sha256` is that of its manifest: versions with equal `sha256` are the same model."""

    name: str
    version: int
    uri: str
    run_id: str
    dataset: str
    sha256: str


class Comparison(Value):
    """A paired comparison of two models on the same images. `difference` is challenger minus opponent, in the metric's unit."""

    name: str
    opponent: int
    holdout: bool
    n: int
    challenger_score: float
    opponent_score: float
    difference: float
    low: float
    high: float
    p_better: float
    more_labels: int | None = None


class Verdict(Value):
    """The gate's outcome for a challenger, its reasons, and the comparisons behind it."""

    outcome: Literal["promote", "reject", "inconclusive"]
    reasons: tuple[str, ...]
    challenger: int
    champion: int | None
    comparisons: tuple[Comparison, ...] = ()
    more_labels: int | None = None


class LedgerEntry(Value):
    """One row of the ledger. `champion` is the version in production after it; `hash` covers all other fields."""

    model: str
    sequence: int
    kind: Literal["promote", "reject", "inconclusive", "rollback"]
    version: int
    champion: int | None
    at: datetime
    actor: str
    reasons: tuple[str, ...]
    dataset: str
    model_sha256: str
    verdict: Verdict | None = None
    previous: str
    hash: str

    @property
    def is_change(self) -> bool:
        """Whether the row put a version into production."""
        return self.kind in ("promote", "rollback")

    def __str__(self) -> str:
        """Who did what, and when."""
        kinds = {"promote": "promoted", "rollback": "restored by a rollback", "reject": "rejected"}
        what = kinds.get(self.kind, "not promoted")
        return f"row {self.sequence}, version {self.version} {what} by {self.actor} at {self.at:%Y-%m-%d %H:%M:%S} UTC"


class Standing(Value):
    """What the author of an act saw: the champion, None if there was none, and the ledger's newest row, 0 if it was empty.

    As text `3@17`, or `none@0`.
    """

    champion: int | None = None
    sequence: int = 0

    @classmethod
    def of(cls, head: "LedgerEntry | None") -> "Standing":
        """What the newest row of a ledger says."""
        return cls(champion=head.champion, sequence=head.sequence) if head else cls()

    @classmethod
    def parse(cls, text: str) -> "Standing":
        """`3@17` or `none@0`. Raises SettingsError."""
        if not (found := _STANDING.fullmatch(text)):
            problem = f"'{text[:40]}' does not name a champion and a row of the ledger"
            raise SettingsError(problem, "Write it as 3, or as 3@17: version 3, as of row 17")
        return cls(champion=None if found[1] == "none" else int(found[1]), sequence=int(found[2]))

    def __str__(self) -> str:
        return f"{'none' if self.champion is None else self.champion}@{self.sequence}"


class Champion(Value):
    """The version in production, None if there is none."""

    version: int | None
