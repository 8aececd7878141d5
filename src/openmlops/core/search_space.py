"""What a search may vary: for each setting a range of numbers or some choices. A TrainConfig declares its own as `SEARCH`."""

from collections.abc import Mapping

from pydantic import model_validator

from openmlops.core.types import Value

Setting = int | float | str | bool


class Range(Value):
    """Numbers from `low` to `high`, both included; `whole`: integers; `log`: every factor is as likely as any other."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.low:g} to {self.high:g} is not a range")
        return self

    def holds(self, value: object) -> bool:
        """Whether a value is in the range."""
        return type(value) in (int, float) and self.low <= value <= self.high  # type: ignore[operator]

    @property
    def examples(self) -> tuple[Setting, ...]:
        """Its ends."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


class Choices(Value):
    """A few values."""

    options: tuple[Setting, ...]

    def holds(self, value: object) -> bool:
        """Whether a value is one of them."""
        return value in self.options

    @property
    def examples(self) -> tuple[Setting, ...]:
        """All of them."""
        return self.options


Space = Mapping[str, Range | Choices]
