"""What a measurement gives: a value with its interval (how, says `intervals`), or why there is none."""

from dataclasses import dataclass, field

from torch import Tensor


class Refusal(ValueError):
    """Not computed, since the number could not be right; the message says why."""


class TooFewImages(Refusal):
    """There are too few images or patients."""


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, the images behind it; without an interval, `no_interval` says why.

    patients: real patients behind it, None where the real images count as independent; draws: the value under
    each row of the bootstrap's weights, float64 [DRAWS], by which two estimates of one protocol are compared
    (`intervals.bootstrap_weights`), or None.
    """

    value: float
    low: float | None
    high: float | None
    n_real: int
    n_generated: int
    no_interval: str | None = None
    patients: int | None = field(default=None, compare=False)
    draws: Tensor | None = field(default=None, compare=False, repr=False)
