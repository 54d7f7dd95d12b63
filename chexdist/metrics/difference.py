"""Decides how two numbers of one protocol are compared: by their difference under the same weights.

Draw i of every number of a protocol has the same weights of the same patients, and of generated images of the
same index (`intervals.bootstrap_weights`). What a reference of other patients would do to both numbers, it
does not do to their difference, whose interval is therefore far narrower than two intervals side by side
would suggest. Light: reports read it, so it takes NumPy and no torch.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 1000
LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True)
class Sample:
    """A number and its values under the bootstrap's weights, float64 [DRAWS]."""

    value: float
    draws: np.ndarray

    def distance_to(self, other: "Sample") -> "Sample":
        """How far it is from another number of the same protocol, on either side."""
        return Sample(abs(self.value - other.value), np.abs(self.draws - other.draws))

    @classmethod
    def mean(cls, samples: "list[Sample]") -> "Sample":
        """The mean of several numbers of one protocol, such as those of several seeds."""
        return cls(
            float(np.mean([each.value for each in samples])), np.mean([each.draws for each in samples], 0)
        )


@dataclass(frozen=True)
class Difference:
    """The first number less the second, with a 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """-1 or 1 where the whole interval is on that side of 0, else 0: not settled."""
        return int(self.low > 0) - int(self.high < 0)


def paired_difference(a: Sample, b: Sample) -> Difference:
    """a - b, both of one protocol."""
    return Difference(a.value - b.value, *percentiles(a.draws - b.draws))


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """Low and high of a 95 % interval from a statistic's values [DRAWS] under the bootstrap's weights."""
    low, high = np.quantile(draws, (LOW, HIGH))
    return float(low), float(high)
