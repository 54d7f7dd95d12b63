"""What a measurement gives: a value with its interval (how, says `intervals`), or why there is none."""

from dataclasses import dataclass


class Refusal(ValueError):
    """Not computed, since the number could not be right; the message says why."""


class TooFewImages(Refusal):
    """There are too few images or patients."""


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, the images behind it; without an interval, `no_interval` says why."""

    value: float
    low: float | None
    high: float | None
    n_real: int
    n_generated: int
    no_interval: str | None = None
