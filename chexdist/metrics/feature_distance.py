"""How far apart the features of generated images are: the mean Euclidean distance of two.

Near that of real images of different patients where a generator draws as many kinds of X-rays; smaller where
it draws few, larger where its images are unlike any. It needs no reference, so played-back images move it
little: `recall` and `coverage` are for that.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.neighbours import squared_distances
from chexdist.metrics.sides import Side, Sides

UNIT = "mean Euclidean distance of features of two images"


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """Mean distance between features generated [M, D] of different patients, or of all without patients.

    The real features don't enter, so the number is compared with the same of real images. Its interval is
    that of a ratio of U-statistics to first order (Hoeffding 1948, "A class of statistics with asymptotically
    normal distribution"), under the bootstrap's weights. Raises as `Sides.of`.
    """
    sides = Sides.of("feature distance", real, generated, real_patients, generated_patients)
    distance, others = _means(sides.generated)
    value = distance.mean() / others.mean()
    linear = 2 * (distance - value * others) / others.mean()
    return sides.estimate(value + sides.weights()[1].means(linear))


def _means(side: Side) -> tuple[Tensor, Tensor]:
    """Of each image [M]: its mean distance, 0 to its own unit, and the share of images of other units."""
    n = len(side.features)
    distance, others = torch.zeros(2, n, dtype=torch.float64, device=side.features.device)
    for rows, x in side.blocks():
        for columns, y in side.blocks():
            same = side.units[rows, None] == side.units[columns]
            distance[rows] += squared_distances(x, y).sqrt().masked_fill(same, 0).sum(1) / n
            others[rows] += (~same).to(torch.float64).sum(1) / n
    return distance, others
