"""What one line of metrics.jsonl holds: a number, its unit, sample count, interval, floor and protocol."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Metric:
    """One measured number. Raises ValueError for values that are not finite, or an interval that is not one.

    images: real images shown to the critic so far; step: generator steps; n: images behind the value; low,
    high: 95 % interval; floor: the same metric between real images under the same protocol; protocol: its
    hash; time: seconds since the epoch. None means that the metric has no such thing, for example a loss has
    no floor.
    """

    images: int
    step: int
    name: str
    unit: str
    value: float
    n: int
    low: float | None
    high: float | None
    floor: float | None
    protocol: str | None
    time: float

    def __post_init__(self) -> None:
        for key in ("value", "low", "high", "floor", "time"):
            number = getattr(self, key)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"metric {self.name}: {key} is {number}; only finite numbers are recorded")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"metric {self.name}: an interval needs both low and high")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"metric {self.name}: low {self.low} is above high {self.high}")
        if self.n < 1 or self.images < 0 or self.step < 0:
            raise ValueError(
                f"metric {self.name}: n {self.n}, images {self.images} and step {self.step} can't be counts"
            )

    def to_dict(self) -> dict[str, int | float | str | None]:
        """The fields in their order, for one line of JSON; `Metric(**line)` is the way back."""
        return asdict(self)
