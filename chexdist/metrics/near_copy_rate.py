"""The share of generated images that are copies of training images, from how many the audit flags.

The audit flags some images that are no copies, and misses some that are. With the rates of both known within
bounds, the share r of copies follows from the share flagged, a = r s + (1 - r) f, for copies found at a rate
s and others flagged at a rate f (Rogan & Gladen 1978, "Estimating prevalence from the results of a screening
test").
"""

import math
from dataclasses import dataclass

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.memorisation import METHOD
from chexdist.metrics.protocol import Hashed
from chexdist.metrics.value import Metric

UNIT = "share of images that are near-copies of training images"
COPIES, NONE, TOO_FEW = "copies", "no sign of copies", "too few images to say"
LOW, HIGH = 0.025, 0.975
ENOUGH = 0.1
"""The most that the interval may reach where no sign of copies is reported."""


@dataclass(frozen=True)
class CopyProtocol(Hashed):
    """How a rate of near-copies was measured.

    reference: digest of the real images; calibrating: real images of other patients behind the threshold;
    planted: copies made for the purpose, of each kind; n: images audited.
    """

    image_size: int
    reference: str
    calibrating: int
    planted: int
    n: int
    reference_split: str = "train"
    method: str = METHOD


def measure(flagged: int, n: int, false_alarms: float, found: float, n_real: int, patients: int) -> Estimate:
    """The share flagged, with a 95 % interval of the share of copies.

    Args:
        flagged: of n images, those that the audit takes for copies.
        false_alarms: the highest rate at which others may be flagged.
        found: the lowest rate at which copies may be found.
        n_real, patients: training images that were searched, and their patients.
    """
    low, high = binomial_interval(flagged, n)
    return Estimate(
        value=flagged / n,
        low=max(0.0, (low - false_alarms) / (1 - false_alarms)),
        high=min(1.0, high / found),
        n_real=n_real,
        n_generated=n,
        patients=patients,
    )


def verdict(rate: Estimate | Metric) -> str:
    """COPIES, NONE or TOO_FEW, by the interval. Raises ValueError for a rate without one."""
    if rate.low is None or rate.high is None:
        raise ValueError("a rate of copies without an interval")
    if rate.low > 0:
        return COPIES
    return NONE if rate.high <= ENOUGH else TOO_FEW


def binomial_interval(k: int, n: int, weight: float = 1.0) -> tuple[float, float]:
    """The 95 % interval of a share of which k of n were seen (Clopper & Pearson 1934).

    weight: independent observations in each of the n, as when several are of one patient.
    """
    seen, unseen = k * weight, (n - k) * weight
    low = beta_quantile(LOW, seen, unseen + 1) if k else 0.0
    return low, beta_quantile(HIGH, seen + 1, unseen) if k < n else 1.0


def beta_quantile(p: float, a: float, b: float) -> float:
    """The p-quantile of the Beta distribution with parameters a and b, to 1e-12."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _beta_share_below(middle, a, b) < p else (low, middle)
    return (low + high) / 2


def _beta_share_below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (Lentz' continued fraction: DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share_below(1 - x, b, a)
    if x <= 0:
        return 0.0
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny, numerator, denominator = 1e-300, 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = denominator
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            denominator = 1 / (1 + term * denominator or tiny)
            numerator = 1 + term / numerator or tiny
            fraction *= denominator * numerator
        if abs(fraction / before - 1) < 1e-14:
            break
    return math.exp(front) * fraction / a
