"""Recall: the share of real images that lie among generated ones.

Kynkaanniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2 with the sides exchanged. It sees a generator that
draws the same images over and over: their balls are empty. What lies among means, and how an interval is
computed, says `neighbours`.
"""

from collections.abc import Hashable, Sequence

from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.neighbours import neighbours, over_real
from chexdist.metrics.sides import Sides

UNIT = "share of real images, 5 neighbours"


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """Recall of features real [N, D] by generated [M, D], with its 95 % interval.

    Raises as `Sides.of`.
    """
    sides = Sides.of("recall", real, generated, real_patients, generated_patients)
    return over_real(sides, neighbours(sides).recall)
