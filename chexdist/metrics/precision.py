"""Precision: the share of generated images that lie among real ones.

Kynkaanniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2. It sees images that look like no X-ray, and misses a
generator that draws few images well: `recall` and `coverage` are for that. What lies among means, and how an
interval is computed, says `neighbours`.
"""

from collections.abc import Hashable, Sequence

from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.neighbours import neighbours, over_generated
from chexdist.metrics.sides import Sides

UNIT = "share of generated images, 5 neighbours"


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """Precision of features generated [M, D] against real [N, D], with its 95 % interval.

    Raises as `Sides.of`.
    """
    sides = Sides.of("precision", real, generated, real_patients, generated_patients)
    return over_generated(sides, neighbours(sides).precision, share=True)
