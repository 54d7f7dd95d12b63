"""Kernel Inception Distance as it is usually computed: images of one patient count as independent.

Binkowski et al. 2018 (arXiv:1801.01401), section 4, by the formula of torch-fidelity and torchmetrics over
all images at once. Pairs of images of one patient resemble each other, so it is above 0 for two sets of real
X-rays of which one has several of a patient; `kid` leaves these pairs out. It is for comparison with
published values.
"""

from collections.abc import Hashable, Sequence

from torch import Tensor

from chexdist.metrics.estimate import Estimate
from chexdist.metrics.kid import UNIT as KID_UNIT
from chexdist.metrics.kid import mmd
from chexdist.metrics.sides import Sides

UNIT = f"{KID_UNIT}, same-patient pairs left in"


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """KID x 1000 between features real [N, D] and generated [M, D] over all pairs of images.

    Patients enter the 95 % interval alone, which is that of `kid`. Raises as `Sides.of`.
    """
    sides = Sides.of("KID", real, generated, real_patients, generated_patients)
    return sides.estimate(mmd(sides).all_pairs)
