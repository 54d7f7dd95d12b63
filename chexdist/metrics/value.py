"""What one line of the log holds: a number, its unit, sample count, interval, real baseline and protocol."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

ON_DISK = {"real_baseline": "floor"}
"""Fields that the log calls otherwise."""

OPTIONAL = ("n_real", "patients")
"""Fields that a line has only where they are known."""


@dataclass(frozen=True)
class Metric:
    """One measured number. Raises ValueError for values that are not finite, or an interval that is not one.

    images: real images shown to the critic so far; step: generator steps; n: images behind the value; low,
    high: 95 % interval; real_baseline: the same metric between real images under the same protocol; protocol:
    its hash; time: seconds since the epoch; n_real, patients: real images and patients that it was measured
    against. None means that the metric has no such thing, for example a loss has no real baseline.
    """

    images: int
    step: int
    name: str
    unit: str
    value: float
    n: int
    low: float | None
    high: float | None
    real_baseline: float | None
    protocol: str | None
    time: float
    n_real: int | None = None
    patients: int | None = None

    def __post_init__(self) -> None:
        for key in ("value", "low", "high", "real_baseline", "time"):
            number = getattr(self, key)
            if number is not None and not math.isfinite(number):
                key = ON_DISK.get(key, key)
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
        """The fields in their order under their names on disk, for one line of JSON."""
        fields = {ON_DISK.get(key, key): value for key, value in asdict(self).items()}
        return {key: value for key, value in fields.items() if value is not None or key not in OPTIONAL}

    @classmethod
    def from_dict(cls, line: Any) -> Self:
        """What `to_dict` gave. Raises TypeError for a missing or unknown field, else as the class does."""
        fields = dict(line)
        for name, on_disk in ON_DISK.items():
            if name in fields or on_disk not in fields:
                raise TypeError(f"a metric without {on_disk}, or with {name}")
            fields[name] = fields.pop(on_disk)
        return cls(**fields)
