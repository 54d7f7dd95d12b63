"""Density: how many balls of real images a generated image lies in, as a share of the 5 that are expected.

Naeem et al. 2020 (arXiv:2002.09797), eq. 3. Unlike precision it is not moved by one real outlier, whose ball
is large, and it is above 1 where generated images crowd where real ones are most dense. What a ball is, and
how an interval is computed, says `neighbours`.
"""

from collections.abc import Hashable, Sequence

from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.neighbours import neighbours, over_generated
from chexdist.metrics.sides import Sides

UNIT = "balls around real images by generated image, of 5 expected"


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """Density of features generated [M, D] among real [N, D], with its 95 % interval.

    Raises as `Sides.of`.
    """
    sides = Sides.of("density", real, generated, real_patients, generated_patients)
    return over_generated(sides, neighbours(sides).density, share=False)
