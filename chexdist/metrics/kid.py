"""Kernel Inception Distance with an interval: how far features of generated images are from real ones.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared MMD with the kernel k(x, y) = (x.y /
D + 1)^3. Unlike FID it is unbiased at any number of images, so its expectation is 0 for two samples of one
distribution, and single values may be negative. Values are multiplied by 1000, as the name `kid_x1000` says.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.sides import Side, Sides, remembered

UNIT = "squared MMD x 1000"
SCALE = 1000.0
BLOCK = 1024  # rows of a Gram matrix held at once


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Estimate:
    """KID x 1000 between features real [N, D] and generated [M, D], in float64, with a 95 % interval.

    Pairs of images of one patient are left out: the estimate is unbiased only over independent pairs (Lee &
    Dehling 2005, "Generalized two-sample U-statistics for clustered data"), and images of one patient
    resemble each other. With them left in, as is usual, it is `kid_all_pairs`.

    The interval is the Bayesian bootstrap over patients, or over images without one
    (`intervals.bootstrap_weights`). It is too wide, never too narrow, where both sides have the same
    distribution (there the statistic is degenerate and the weights' linear term comes on top).

    Raises as `Sides.of`.
    """
    sides = Sides.of("KID", real, generated, real_patients, generated_patients, seed)
    return sides.estimate(mmd(sides).independent_pairs)


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Gram matrix [N, M] of x [N, D] and y [M, D]: (x.y / D + 1)^3, Binkowski et al. 2018, section 4."""
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True)
class Mmd:
    """Squared MMD x 1000 for each row of the bootstrap's weights, [1 + DRAWS].

    independent_pairs: without pairs of images of one patient; all_pairs: with them.
    """

    independent_pairs: Tensor
    all_pairs: Tensor


@remembered
def mmd(sides: Sides) -> Mmd:
    """Both, in one pass over the pairs."""
    real_weights, generated_weights = sides.weights()
    real, generated = _within(sides.real, real_weights), _within(sides.generated, generated_weights)
    between = _between(sides.real.features, real_weights, sides.generated.features, generated_weights)
    return Mmd(SCALE * (real[0] + generated[0] - 2 * between), SCALE * (real[1] + generated[1] - 2 * between))


def _within(side: Side, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means of the kernel over pairs of images of two units, and over all pairs of two images."""
    x, units = side.features, side.units
    count = int(units.max()) + 1
    numbers = torch.arange(len(x), device=x.device)
    different = torch.zeros(len(weights), dtype=x.dtype, device=x.device)
    same = torch.zeros(count, dtype=x.dtype, device=x.device)
    for rows in numbers.split(BLOCK):
        same_unit = units[rows, None] == units[None, :]
        gram = polynomial_kernel(x[rows], x)
        other_image = same_unit & (rows[:, None] != numbers[None, :])
        same.index_add_(0, units[rows], gram.masked_fill(~other_image, 0).sum(1))
        different += (weights[:, rows] @ gram.masked_fill(same_unit, 0) * weights).sum(1)
    per_unit = torch.zeros(len(weights), count, dtype=x.dtype, device=x.device)
    per_unit.index_add_(1, units, weights)
    images = torch.bincount(units, minlength=count)
    total = per_unit.sum(1) ** 2
    independent = different / (total - (per_unit**2).sum(1))
    squares = (per_unit / images) ** 2  # a unit's images have one weight
    return independent, (different + squares @ same) / (total - (weights**2).sum(1))


def _between(x: Tensor, x_weights: Tensor, y: Tensor, y_weights: Tensor) -> Tensor:
    """Weighted mean of the kernel over all pairs of an x and a y, for each row of weights."""
    total = torch.zeros(len(x_weights), dtype=x.dtype, device=x.device)
    for rows in torch.arange(len(x), device=x.device).split(BLOCK):
        total += (x_weights[:, rows] @ polynomial_kernel(x[rows], y) * y_weights).sum(1)
    return total / (x_weights.sum(1) * y_weights.sum(1))
