"""Brightness, contrast, then translation and cutout (Zhao 2020, sec. 4.1), exposure at half the paper's
strength.

No left-right flip: a mirrored chest is situs inversus, which is a finding.
"""

from torch import Tensor

from chexdist.gan.augment import translate

DRAWS = 6
"""Uniform numbers that each image takes: brightness, contrast, and those of `translate`."""

BRIGHTNESS = 0.25
CONTRAST = 0.25


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] and uniform draws [N, 6] -> images of the same shape.

    An amount within +- BRIGHTNESS is added, and the distance to the image's mean is multiplied by 1 +-
    CONTRAST."""
    brightness, contrast = (2 * draws[:, :2, None, None] - 1).unbind(1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    exposed = mean + (images - mean) * (1 + CONTRAST * contrast[:, None]) + BRIGHTNESS * brightness[:, None]
    return translate.augment(exposed, draws[:, 2:])
