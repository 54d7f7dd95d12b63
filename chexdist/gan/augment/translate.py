"""Translation and cutout (Zhao 2020, "Differentiable Augmentation for Data-Efficient GAN Training", sec.
4.1).

No left-right flip: a mirrored chest is situs inversus, which is a finding.
"""

import torch
from torch import Tensor

DRAWS = 4
"""Uniform numbers that each image takes: shift down and right, place of the cutout down and right."""

MAX_SHIFT = 1 / 8
CUTOUT_SIDE = 1 / 2


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] and uniform draws [N, 4] -> images of the same shape; what comes in is
    0, mid-grey.
    """
    count, _, size, _ = images.shape
    largest, side = round(size * MAX_SHIFT), round(size * CUTOUT_SIDE)
    shift, corner = draws.unsqueeze(2).chunk(2, 1)

    # down and right, [N, 2, S]: where a pixel comes from, and how far behind the cutout's corner it is
    places = torch.arange(-largest, size - largest, device=images.device)
    source = places + (shift * (2 * largest + 1)).long()
    places = torch.arange(side // 2, size + side // 2, device=images.device)
    behind = places - (corner * (size + 1)).long()

    nearest = source.clamp(0, size - 1)
    inside, cut = _both(nearest == source), _both(behind.clamp(0, side - 1) == behind)
    which = torch.arange(count, device=images.device)[:, None, None]
    row, column = nearest.unbind(1)
    moved = images.squeeze(1)[which, row.unsqueeze(2), column.unsqueeze(1)]
    return (moved * (inside > cut)).unsqueeze(1)


def _both(sides: Tensor) -> Tensor:
    """Whether it is so of row and column: [N, 2, S] -> [N, S, S]."""
    row, column = sides.unbind(1)
    return row.unsqueeze(2) & column.unsqueeze(1)
