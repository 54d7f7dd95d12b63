"""The copies that the audit has to find: images mirrored, turned, scaled, shifted, inverted and noisy."""

import math

import torch
from torch import Tensor
from torch.nn import functional

TURN, SCALE, SHIFT, NOISE = 10.0, 0.15, 1 / 8, 25 / 255
"""Degrees, share of the size, share of the side in both directions, standard deviation of full scale."""
KINDS = ("mirrored", "turned", "scaled", "shifted", "inverted", "noisy")


def planted(images: Tensor, kind: str, seed: int = 0) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] changed as far as a kind goes, with black around where nothing is left.

    Which way (turned left or right, larger or smaller, the diagonal) and the noise follow from the seed.
    """
    random = torch.Generator().manual_seed(seed)
    sign, other = (torch.rand(2, len(images), generator=random) < 0.5).float() * 2 - 1
    none, one = torch.zeros(len(images)), torch.ones(len(images))
    if kind == "mirrored":
        return images.flip(3)
    if kind == "turned":
        return _moved(images, sign * TURN, one, none, none)
    if kind == "scaled":
        return _moved(images, none, 1 + sign * SCALE, none, none)
    if kind == "shifted":
        return _moved(images, none, one, sign * SHIFT, other * SHIFT)
    if kind == "inverted":
        return -images
    if kind == "noisy":
        noise = torch.randn(images.shape, generator=random) * NOISE * 2
        return (images + noise).clamp(-1, 1)
    raise ValueError(f"{kind} is no kind of copy: there are {', '.join(KINDS)}")


def _moved(images: Tensor, degrees: Tensor, scale: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Turned about the middle, scaled, then shifted by shares of the side; bicubic."""
    angle = degrees * math.pi / 180
    cos, sin = angle.cos() / scale, angle.sin() / scale
    y, x = 2 * down, 2 * right
    rows = [
        torch.stack([cos, sin, -(cos * x + sin * y)], dim=1),
        torch.stack([-sin, cos, sin * x - cos * y], dim=1),
    ]
    points = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images + 1, points, mode="bicubic", align_corners=False)
    return moved.clamp(0, 2) - 1
