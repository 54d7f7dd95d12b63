"""What a measurement gives: a value with its interval, or the reason why there is none."""

from dataclasses import dataclass


class Refusal(ValueError):
    """Not computed, since the number could not be right; the message says why."""


class TooFewImages(Refusal):
    """There are too few images or patients."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, if it has one, with the numbers of images behind it."""

    value: float
    low: float | None
    high: float | None
    n_real: int
    n_generated: int
