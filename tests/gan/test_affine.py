"""Scale, aspect and rotation of `affine-color`, against torch's grid_sample and by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from chexdist.gan.augment import affine_color, translate_color


def by_grid_sample(image: Tensor, draw: list[float]) -> Tensor:
    """Image [S, S] and the three draws -> image [S, S], by torch's own sampler."""
    scale, aspect, angle = (2 * value - 1 for value in draw)
    turn = math.radians(affine_color.ANGLE * angle)
    height = math.exp(affine_color.SCALE * scale - affine_color.ASPECT / 2 * aspect)
    width = math.exp(affine_color.SCALE * scale + affine_color.ASPECT / 2 * aspect)
    matrix = torch.tensor(
        [
            [math.cos(turn) * width, -math.sin(turn) * height, 0.0],
            [math.sin(turn) * width, math.cos(turn) * height, 0.0],
        ],
        dtype=image.dtype,
    )
    grid = functional.affine_grid(matrix[None], [1, 1, *image.shape], align_corners=False)
    return functional.grid_sample(image[None, None], grid, padding_mode="zeros", align_corners=False)[0, 0]


@pytest.mark.parametrize("size", [32, 64])
def test_like_grid_sample(size: int) -> None:
    random = np.random.default_rng(size)
    images = torch.from_numpy(random.uniform(-1, 1, (8, 1, size, size)))
    draws = torch.from_numpy(random.random((8, affine_color.DRAWS)))
    draws[0, :3], draws[1, :3] = 0.0, np.nextafter(1.0, 0.0)
    changed = affine_color.augment(images, draws)
    for image, draw, found in zip(images, draws, changed, strict=True):
        posed = by_grid_sample(image[0], draw[:3].tolist())
        expected = translate_color.augment(posed[None, None], draw[None, 3:])[0]
        torch.testing.assert_close(found, expected)


def test_the_middle_of_all_draws_changes_nothing() -> None:
    """But for what the last steps do: here no exposure, no shift, a cutout at the corner."""
    images = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    draws = torch.full((2, affine_color.DRAWS), 0.5, dtype=torch.float64)
    draws[:, 7:] = 0.0
    changed = affine_color.augment(images, draws)
    torch.testing.assert_close(changed[:, :, 8:], images[:, :, 8:])
    assert (changed[:, :, :8, :8] == 0).all()


def test_its_gradient_by_finite_differences() -> None:
    random = np.random.default_rng(3)
    images = torch.from_numpy(random.uniform(-1, 1, (2, 1, 8, 8))).requires_grad_()
    draws = torch.from_numpy(random.random((2, affine_color.DRAWS)))
    assert torch.autograd.gradcheck(lambda batch: affine_color.augment(batch, draws), images)
