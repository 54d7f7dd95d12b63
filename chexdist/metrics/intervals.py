"""Decides how a metric's 95 % interval is computed.

The independent units are patients, not images: images of one patient resemble each other. Two ways: a
statistic of sets of features (`kid`) by the Bayesian bootstrap, a mean over pairs of images (`pairs`) by the
variance of a mean over clusters. `fid` has none and says why. How two numbers are compared is decided in
`difference`.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.difference import DRAWS, HIGH, percentiles

HELD = 512
"""Images whose weights are held at once, but for a unit that has more."""


def numbered(units: Iterable[Hashable]) -> Tensor:
    """Each image's unit as a number, int64 [N], from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(unit, len(numbers)) for unit in units], dtype=torch.int64)


class BootstrapWeights:
    """Weights [1 + DRAWS, N] of N images: ones, for the value itself, then rows of the Bayesian bootstrap.

    Rubin 1981, "The Bayesian bootstrap": each draw gives each unit an exponential weight, so every image
    stays itself. Repeating images, as the plain bootstrap does, would put k(x, x) into a sum over pairs and
    bias it. Unit k's weights do not depend on how many units follow it, so that numbers of one protocol share
    those of the units that they share.

    They are drawn again for each pass over the images, about `HELD` images at a time, since those of all
    images would take 8 KB each.
    """

    def __init__(self, random: np.random.Generator, units: Tensor) -> None:
        """`units` int64 [N], from 0; leaves `random` after its last draw of them."""
        self.units = units
        order = torch.argsort(units, stable=True)
        ends = torch.bincount(units).cumsum(0).tolist()
        self._blocks: list[tuple[Tensor, int, int, Mapping[str, Any]]] = []
        unit = image = 0
        while unit < len(ends):
            last = max(unit + 1, bisect_right(ends, image + HELD))
            self._blocks.append((order[image : ends[last - 1]], unit, last, random.bit_generator.state))
            random.standard_exponential((last - unit, DRAWS))
            unit, image = last, ends[last - 1]

    def __len__(self) -> int:
        """The number of blocks of images."""
        return len(self._blocks)

    def __getitem__(self, block: int) -> tuple[Tensor, Tensor]:
        """The numbers [n] of a block's images and their weights [1 + DRAWS, n]."""
        images, first, last, state = self._blocks[block]
        random = np.random.Generator(np.random.Philox())
        random.bit_generator.state = state
        weights = torch.ones(1 + DRAWS, last - first, dtype=torch.float64)
        weights[1:] = torch.from_numpy(random.standard_exponential((last - first, DRAWS)).T)
        return images, weights.to(self.units.device)[:, self.units[images] - first]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each block in turn: each image once."""
        return (self[block] for block in range(len(self)))

    def sums(self, values: Tensor) -> Tensor:
        """The sums of values [N, ...] under each row: float64 [1 + DRAWS, ...]."""
        total = torch.zeros(1 + DRAWS, *values.shape[1:], dtype=torch.float64, device=values.device)
        for images, weights in self:
            total += torch.tensordot(weights, values[images].to(torch.float64), 1)
        return total

    def totals(self) -> Tensor:
        """The sum of each row: float64 [1 + DRAWS]."""
        return self.sums(torch.ones(len(self.units), device=self.units.device))

    def means(self, values: Tensor) -> Tensor:
        """The means of values [N] under each row: float64 [1 + DRAWS]."""
        return self.sums(values) / self.totals()


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
    return BootstrapWeights(np.random.Generator(np.random.Philox(seed)), units).means(scores)[1:]


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
