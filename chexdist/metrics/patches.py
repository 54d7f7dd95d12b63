"""Decides what the classifier sees of an image: how like its patches are to patches of training images.

Coates & Ng 2011, "An analysis of single-layer networks in unsupervised feature learning", sec. 3, with random
patches for centroids: whitened patches of training images as filters, both signs of the response, a sum over
the cells of a grid. Each filter is there with its mirror image, upside down, and both, so that reflecting or
inverting an image permutes its features: they need not be computed again. Nothing here knows labels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chexdist.metrics.estimate import TooFewImages
from chexdist.metrics.full_float32 import full_float32
from chexdist.metrics.preprocess import levels, resize

SIDE = 32
"""Pixels of a thumbnail: measured, more cost more and see no more of a class or of an orientation."""
PATCH, FILTERS, GRID = 6, 16, 4
SAMPLED = 20_000
"""Patches whose covariance whitens."""
CONTRAST = 0.05
"""Added to a patch's standard deviation, in units of half the value range, so that noise is not enlarged."""
WHITENING = 0.1
"""Added to the covariance's eigenvalues."""
DEAD = 0.25
"""A response below it counts as none."""
FILTERS_SHAPE = (FILTERS * 4, 1, PATCH, PATCH)
FEATURES = FILTERS * 4 * 2 * GRID**2
CHUNK = 64
REFLECTIONS = ("mirrored", "upside_down", "inverted")


def thumbnails(images: Tensor) -> Tensor:
    """Gray images [N, 1, S, S] in [-1, 1], any float dtype, to uint8 [N, SIDE, SIDE], on the CPU.

    Raises ValueError as `preprocess.levels` does.
    """
    return resize(levels(images), SIDE)[:, 0].round().to(torch.uint8).cpu()


def draw_filters(images: Tensor) -> Tensor:
    """Filters, float32 of FILTERS_SHAPE, out of thumbnails [N, SIDE, SIDE], drawn by a fixed seed.

    Raises TooFewImages where there are no patches with something to see on them.
    """
    draws, last = np.random.Generator(np.random.Philox(0)), SIDE - PATCH
    image = draws.integers(0, len(images), SAMPLED)[:, None, None]
    top, left = draws.integers(0, last, (2, SAMPLED, 1, 1), endpoint=True)
    offset = np.arange(PATCH)
    patches = (images.double() / 127.5 - 1)[image, top + offset[:, None], left + offset]
    patches = patches.flatten(1)
    patches = patches - patches.mean(1, keepdim=True)
    deviation = patches.std(1, keepdim=True)
    patches = (patches / (deviation + CONTRAST))[deviation[:, 0] > CONTRAST]
    if len(patches) < FILTERS:
        raise TooFewImages("the training images are flat: a classifier has nothing to see")
    eigenvalues, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
    whitening = axes @ torch.diag((eigenvalues + WHITENING).rsqrt()) @ axes.T
    filters = patches[:FILTERS] @ whitening
    filters = filters / filters.norm(dim=1, keepdim=True) @ whitening
    filters = (filters - filters.mean(1, keepdim=True)).view(-1, PATCH, PATCH)
    turned = [filters, filters.flip(2), filters.flip(1), filters.flip(1, 2)]
    return torch.stack(turned, 1).view(FILTERS_SHAPE).float()


@torch.no_grad()
def features(filters: Tensor, images: Tensor) -> Tensor:
    """Features [N, FEATURES] float32, each at least 0, of thumbnails [N, SIDE, SIDE]."""
    parts = [torch.empty(0, FEATURES)]
    with full_float32(images.device):
        for chunk in images.split(CHUNK):
            pixels = chunk[:, None].float() / 127.5 - 1
            mean = F.avg_pool2d(pixels, PATCH, 1)
            variance = F.avg_pool2d(pixels**2, PATCH, 1) - mean**2
            response = F.conv2d(pixels, filters) / (variance.clamp_min(0).sqrt() + CONTRAST)
            both = torch.stack([F.relu(response - DEAD), F.relu(-response - DEAD)], 2).flatten(1, 2)
            parts.append(F.adaptive_avg_pool2d(both, GRID).flatten(1))
    return torch.cat(parts)


def reflected(features: Tensor, reflection: str) -> Tensor:
    """The features [..., FEATURES] of the reflected or inverted images, of those of the images."""
    turns, signs, rows, columns = (-4, -3, -2, -1)
    split = features.unflatten(-1, (FILTERS, 4, 2, GRID, GRID))
    if reflection == "mirrored":
        split = split.index_select(turns, torch.tensor([1, 0, 3, 2])).flip(columns)
    elif reflection == "upside_down":
        split = split.index_select(turns, torch.tensor([2, 3, 0, 1])).flip(rows)
    else:
        split = split.flip(signs)
    return split.flatten(-5)
