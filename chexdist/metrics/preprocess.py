"""How an image becomes a metric's input: levels, size, channels. A part of every protocol.

Real and generated images take this one path, since the choice of resize alone moves such metrics (Parmar et
al. 2022, arXiv:2104.11222). What is changed here changes numbers: change the names below with it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VALUE_RANGE = "[-1, 1] rounded to 256 levels"
RESIZE = "bilinear, antialiased, half-pixel centres, float32"
GRAY = "repeated to 3 channels"
NORMALISATION = "(level of 255 - 127) / 128"


@dataclass(frozen=True)
class Normalised:
    """What levels become as a network's input: (level - subtract[c]) / divide[c] in channel c."""

    subtract: tuple[float, ...]
    divide: tuple[float, ...]
    normalisation: str

    @classmethod
    def between(cls, low: float, high: float, channels: int) -> "Normalised":
        """Black becomes `low`, white `high`, in each channel."""
        divide = 255 / (high - low)
        each = (-low * divide,) * channels
        return cls(each, (divide,) * channels, f"level 0 becomes {low:g}, level 255 {high:g}")

    @property
    def gray(self) -> str:
        """What a protocol says of the channels."""
        return GRAY if len(self.subtract) == 3 else "one channel"


AS_EFFICIENTNET_LITE = Normalised((127.0,) * 3, (128.0,) * 3, NORMALISATION)
"""As EfficientNet-Lite was trained, not by ImageNet's mean and deviation."""

AS_IMAGENET = Normalised(
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
    "(level / 255 - ImageNet's mean) / its deviation, by channel",
)
"""torchvision's models: mean 0.485, 0.456, 0.406, deviation 0.229, 0.224, 0.225."""


def preprocess(images: Tensor, size: int, normalised: Normalised = AS_EFFICIENTNET_LITE) -> Tensor:
    """Gray images [N, 1, S, S] in [-1, 1], any float dtype, to float32 [N, C, size, size] on the same device.

    Raises ValueError as `levels` does.
    """
    at_size = resize(levels(images), size).expand(-1, len(normalised.subtract), -1, -1)
    subtract, divide = (
        torch.tensor(each, device=images.device).view(-1, 1, 1)
        for each in (normalised.subtract, normalised.divide)
    )
    return (at_size - subtract) / divide


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
