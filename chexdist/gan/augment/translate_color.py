"""Brightness, contrast, then translation and cutout (Zhao 2020, sec. 4.1), exposure at half the paper's
strength.

No left-right flip: a mirrored chest is situs inversus, which is a finding.
"""

import torch
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
    exposure, placement = draws.split([2, translate.DRAWS], 1)
    brightness, contrast = (2 * exposure - 1)[:, :, None, None].chunk(2, 1)  # [N, 1, 1, 1]
    far = images - images.mean(dim=(1, 2, 3), keepdim=True)
    exposed = torch.addcmul(images, far, contrast, value=CONTRAST).add(brightness, alpha=BRIGHTNESS)
    return translate.augment(exposed, placement)
