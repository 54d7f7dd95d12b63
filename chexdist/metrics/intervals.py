"""Decides how a metric's 95 % interval is computed.

The independent units are patients, not images: images of one patient resemble each other. Two ways: a
statistic of sets of features (`kid`) by the Bayesian bootstrap, a mean over pairs of images (`pairs`) by the
variance of a mean over clusters. `fid` has none and says why. How two numbers are compared is decided in
`difference`.
"""

from collections.abc import Hashable, Iterable
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.difference import DRAWS, HIGH, percentiles


def numbered(units: Iterable[Hashable]) -> Tensor:
    """Each image's unit as a number, int64 [N], from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(unit, len(numbers)) for unit in units], dtype=torch.int64)


def bootstrap_weights(random: np.random.Generator, units: Tensor) -> Tensor:
    """Weights [1 + DRAWS, N] of N images: ones, for the value itself, then rows of the Bayesian bootstrap.

    Rubin 1981, "The Bayesian bootstrap": each draw gives each unit an exponential weight, so every image
    stays itself. Repeating images, as the plain bootstrap does, would put k(x, x) into a sum over pairs and
    bias it. Unit k's weights do not depend on how many units follow it, so that numbers of one protocol share
    those of the units that they share.
    """
    drawn = random.standard_exponential((int(units.max()) + 1, DRAWS)).T
    weights = np.concatenate([np.ones((1, drawn.shape[1])), drawn])
    return torch.from_numpy(weights).to(units.device)[:, units]


def bootstrap_interval(draws: Tensor) -> tuple[float, float]:
    """Low and high of the statistic's values [DRAWS] under the bootstrap's weights: their percentiles."""
    return percentiles(draws.cpu().numpy())


def clustered_mean(scores: Tensor, units: Tensor) -> tuple[float, float, float]:
    """Mean, low and high of scores [N], float64; those of one unit (`units` [N]) depend on each other.

    The variance is that of a mean over clusters (Liang & Zeger 1986, "Longitudinal data analysis using
    generalized linear models", eq. 2, with G / (G - 1)), the quantile Student's with G - 1 degrees of freedom
    for G units.
    """
    clusters, n = int(units.max()) + 1, len(scores)
    mean = scores.mean()
    per_unit = torch.zeros(clusters, dtype=torch.float64).index_add_(0, units, scores - mean)
    error = float((clusters / (clusters - 1) * (per_unit**2).sum()).sqrt()) / n
    reach = student_quantile(clusters - 1) * error
    return float(mean), float(mean) - reach, float(mean) + reach


def clustered_mean_draws(scores: Tensor, units: Tensor, seed: int = 0) -> Tensor:
    """The mean of scores [N] under the bootstrap's weights of their units [N]: float64 [DRAWS].

    By these two means over the same units are compared; an interval of one mean alone is `clustered_mean`'s.
    """
    weights = bootstrap_weights(np.random.Generator(np.random.Philox(seed)), units)[1:]
    return (weights @ scores.to(torch.float64)) / weights.sum(1)


def student_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t, to 1e-4 from 15 degrees on (Abramowitz & Stegun 1964, eq. 26.7.5)."""
    x = NormalDist().inv_cdf(HIGH)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
