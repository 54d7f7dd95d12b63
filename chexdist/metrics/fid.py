"""Frechet Inception Distance, where there are enough images for it.

Heusel et al. 2017 (arXiv:1706.08500), eq. 6. FID is biased by an amount that depends on the number of images
and on the generator (Chong & Forsyth 2020, arXiv:1911.07023), and with fewer images than features its
covariances are singular.

To held-out images it is `fid`, to training images `fid_train`, as papers on small data sets report it: a
generator that plays training images back is near 0 there.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

from chexdist.metrics.estimate import Estimate, TooFewImages

UNIT = "squared Frechet distance of features"
NO_INTERVAL = "resampled images would add to FID's bias, so an interval would not lie around the value"


class _Features(nn.Module):
    """Stands in for torchmetrics' network, since the features are given."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def images_needed(size: int) -> int:
    """How many images of each side FID needs with so many features."""
    return 2 * size


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
) -> Estimate:
    """FID between features real [N, D] and generated [M, D], by torchmetrics in float64.

    It has no interval, for the reason in NO_INTERVAL. Patients don't enter: the mean and the covariance are
    those of all images.

    Raises TooFewImages where N or M is below 2 D.
    """
    size = real.shape[1]
    if min(len(real), len(generated)) < images_needed(size):
        raise TooFewImages(
            f"no FID between {len(real)} and {len(generated)} images: its {size} features need "
            f"{images_needed(size)} of each, below which it is mostly bias"
        )
    from torchmetrics.image.fid import FrechetInceptionDistance  # here, since its import takes seconds

    metric = FrechetInceptionDistance(feature=_Features(size))
    metric.update(real.to(torch.float64), real=True)
    metric.update(generated.to(torch.float64), real=False)
    return Estimate(float(metric.compute()), None, None, len(real), len(generated), NO_INTERVAL)
