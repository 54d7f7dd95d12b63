"""What a measurement gives: a value with its interval (`intervals` says how that is computed), or the reason why there is none."""

from dataclasses import dataclass


class Refusal(ValueError):
    """Not computed, since the number could not be right; the message says why."""


class TooFewImages(Refusal):
    """There are too few images or patients."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval with the numbers of images behind it; without an interval, `no_interval` says why."""

    value: float
    low: float | None
    high: float | None
    n_real: int
    n_generated: int
    no_interval: str | None = None
