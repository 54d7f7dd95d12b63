"""How an image becomes a metric's input: levels, size, channels. A part of every protocol.

Real and generated images take this one path, since the choice of resize alone moves such metrics (Parmar et
al. 2022, arXiv:2104.11222). What is changed here changes numbers: change the names below with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

VALUE_RANGE = "[-1, 1] rounded to 256 levels"
RESIZE = "bilinear, antialiased, half-pixel centres, float32"
GRAY = "repeated to 3 channels"
NORMALISATION = "(level of 255 - 127) / 128"


def preprocess(images: Tensor, size: int) -> Tensor:
    """Gray images [N, 1, S, S] in [-1, 1], any float dtype, to float32 [N, 3, size, size] on the same device.

    Normalised as EfficientNet-Lite was trained: (level - 127) / 128, not by ImageNet's mean and deviation.

    Raises ValueError as `levels` does.
    """
    return ((resize(levels(images), size) - 127) / 128).expand(-1, 3, -1, -1)


def levels(images: Tensor) -> Tensor:
    """Gray images [N, 1, S, S] in [-1, 1], any float dtype, to whole numbers 0 to 255, float32.

    Rounded to 256 levels, so that a generator's tensors and the pictures that are exported from them get the
    same numbers.

    Raises ValueError for another shape or an integer dtype, and for values outside [-1, 1] or not finite.
    """
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images have shape {list(images.shape)}; expected gray squares [N, 1, S, S]")
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; expected floats in [-1, 1]")
    images = images.to(torch.float32)
    # Written so that NaN fails too. The margin is for the rounding of a bf16 pipeline.
    if images.numel() and not bool((images.abs() <= 1.01).all()):
        raise ValueError("images hold values outside [-1, 1] or not finite; scale them to [-1, 1] first")
    return ((images.clamp(-1, 1) + 1) * 127.5).round()


def resize(images: Tensor, size: int) -> Tensor:
    """Images [N, C, S, S] to [N, C, size, size] by a triangle filter, wider where it shrinks; same dtype."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
