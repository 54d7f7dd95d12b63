"""Scale, aspect and rotation, as positioning of a patient varies, then what `translate-color` does.

Kinds and order are those of Karras 2020 ("Training Generative Adversarial Networks with Limited Data",
app. B), without flips and quarter turns: a mirrored chest is situs inversus, which is a finding. Pixels are
gathered, not taken by torch's grid_sample: its gradient on a GPU adds up in any order, and a restart is to be
bitwise.
"""

import math

import torch
from torch import Tensor

from chexdist.gan.augment import translate_color

DRAWS = 9
"""Uniform numbers that each image takes: scale, aspect, angle, and those of `translate_color`."""

SCALE = 0.15
"""Sides are divided by exp(+- SCALE)."""
ASPECT = 0.1
"""Width against height, likewise."""
ANGLE = 10.0
"""Largest rotation, degrees."""


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] and uniform draws [N, 9] -> images of the same shape.

    What comes in from outside is 0, mid-grey."""
    scale, aspect, angle = (2 * draws[:, :3, None, None] - 1).unbind(1)  # [N, 1, 1]
    size = images.shape[-1]
    offset = torch.arange(size, device=images.device, dtype=images.dtype) - (size - 1) / 2
    down = offset[:, None] * torch.exp(SCALE * scale - ASPECT / 2 * aspect)
    across = offset * torch.exp(SCALE * scale + ASPECT / 2 * aspect)
    turn = math.radians(ANGLE) * angle
    row = torch.cos(turn) * down + torch.sin(turn) * across + (size - 1) / 2
    column = torch.cos(turn) * across - torch.sin(turn) * down + (size - 1) / 2
    return translate_color.augment(interpolated(images, row, column), draws[:, 3:])


def interpolated(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Images [N, 1, S, S] at the places row, column [N, S, S], in pixels, by bilinear interpolation.

    Outside of an image is 0."""
    count, _, size, _ = images.shape
    which = torch.arange(count, device=images.device)[:, None, None]
    top, left = row.floor(), column.floor()
    found = torch.zeros_like(images[:, 0])
    for y, height in ((top, 1 - (row - top)), (top + 1, row - top)):
        for x, width in ((left, 1 - (column - left)), (left + 1, column - left)):
            inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
            pixel = images[which, 0, y.long().clamp(0, size - 1), x.long().clamp(0, size - 1)]
            found = found + pixel * (height * width * inside)
    return found[:, None]
