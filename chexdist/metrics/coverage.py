"""Coverage: the share of real images near which there is a generated one.

Naeem et al. 2020 (arXiv:2002.09797), eq. 4. Like recall it sees a generator that draws few images; unlike
recall it is not moved by one generated outlier, whose ball is large. What near means, and how an interval is
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
    """Coverage of features real [N, D] by generated [M, D], with its 95 % interval.

    Raises as `Sides.of`.
    """
    sides = Sides.of("coverage", real, generated, real_patients, generated_patients)
    return over_real(sides, neighbours(sides).coverage)
