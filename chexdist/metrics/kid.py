"""Kernel Inception Distance with an interval: how far features of generated images are from real ones.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared MMD with the kernel k(x, y) = (x.y /
D + 1)^3. Unlike FID it is unbiased at any number of images, so its expectation is 0 for two samples of one
distribution, and single values may be negative. Values are multiplied by 1000, as the name `kid_x1000` says.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chexdist.metrics.difference import DRAWS
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.intervals import BootstrapWeights
from chexdist.metrics.sharing import total
from chexdist.metrics.sides import Side, Sides, remembered

UNIT = "squared MMD x 1000"
SCALE = 1000.0


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


@remembered(lambda sides: sides.digest)
def mmd(sides: Sides) -> Mmd:
    """Both, in one pass over the pairs."""
    real, generated = _within_real(sides), _within(sides.generated, sides.weights()[1])
    between = _between(sides)
    return Mmd(SCALE * (real[0] + generated[0] - 2 * between), SCALE * (real[1] + generated[1] - 2 * between))


@remembered(lambda sides: sides.real_digest)
def _within_real(sides: Sides) -> tuple[Tensor, Tensor]:
    """Of the real side, which is the same each time that a generator is measured."""
    return _within(sides.real, sides.weights()[0])


def _within(side: Side, weights: BootstrapWeights) -> tuple[Tensor, Tensor]:
    """Weighted means of the kernel over pairs of images of two units, and over all pairs of two images."""
    features, units, blocks = side.features, side.units, len(weights)
    images = torch.bincount(units)

    def of_rows(block: int) -> Tensor:
        """Of pairs whose first image is in this block: sums [4, 1 + DRAWS]. The kernel is symmetric, so of
        two blocks' pairs those of the later one's rows are counted with the earlier one's.
        """
        rows, row_weights = weights[block]
        x = features[rows].to(torch.float64)
        different, squares = row_weights.new_zeros(2, 1 + DRAWS)
        for other in range(block, blocks):
            columns, column_weights = weights[other]
            same_unit = units[rows, None] == units[columns]
            gram = polynomial_kernel(x, features[columns].to(torch.float64))
            ways = 1 if other == block else 2
            different += ways * (row_weights @ gram.masked_fill(same_unit, 0) * column_weights).sum(1)
            if other == block:  # a unit's images are in one block and have one weight
                other_image = same_unit & (rows[:, None] != columns)
                squares += row_weights**2 @ gram.masked_fill(~other_image, 0).sum(1)
        pairs_of_one_unit = row_weights**2 @ images[units[rows]].to(torch.float64)
        return torch.stack([different, squares, pairs_of_one_unit, (row_weights**2).sum(1)])

    different, squares, pairs_of_one_unit, pairs_of_one_image = total(blocks, of_rows)
    square = weights.totals() ** 2
    return different / (square - pairs_of_one_unit), (different + squares) / (square - pairs_of_one_image)


def _between(sides: Sides) -> Tensor:
    """Weighted mean of the kernel over all pairs of a real and a generated image, for each row of weights."""
    real, generated = sides.weights()

    def of_rows(block: int) -> Tensor:
        rows, row_weights = real[block]
        x = sides.real.features[rows].to(torch.float64)
        found = row_weights.new_zeros(1 + DRAWS)
        for columns, column_weights in generated:
            gram = polynomial_kernel(x, sides.generated.features[columns].to(torch.float64))
            found += (row_weights @ gram * column_weights).sum(1)
        return found

    return total(len(real), of_rows) / (real.totals() * generated.totals())
