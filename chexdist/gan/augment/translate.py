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
    place = torch.arange(size, device=images.device)

    largest = round(size * MAX_SHIFT)
    shift = (draws[:, :2] * (2 * largest + 1)).long() - largest
    row, column = place + shift[:, :1], place + shift[:, 1:]  # [N, S]: where each pixel comes from
    inside = ((row >= 0) & (row < size))[:, :, None] & ((column >= 0) & (column < size))[:, None, :]

    side = round(size * CUTOUT_SIDE)
    corner = (draws[:, 2:] * (size + 1)).long() - side // 2
    cut_rows = (place >= corner[:, :1]) & (place < corner[:, :1] + side)
    cut_columns = (place >= corner[:, 1:]) & (place < corner[:, 1:] + side)
    kept = inside & ~(cut_rows[:, :, None] & cut_columns[:, None, :])

    which = torch.arange(count, device=images.device)[:, None, None]
    moved = images[which, 0, row.clamp(0, size - 1)[:, :, None], column.clamp(0, size - 1)[:, None, :]]
    return (moved * kept)[:, None]
