"""Clipping by the gradient's norm (Pascanu 2013, "On the difficulty of training recurrent neural networks",
alg. 1).
"""

import torch
from torch import Tensor

SMALLEST = 1e-6  # a gradient of 0 is not divided by


def clip_gradients(gradients: list[Tensor], norm: Tensor, value: float) -> None:
    """Scale `gradients` in place so that their joint norm is `value` at most."""
    torch._foreach_mul_(gradients, (value / (norm + SMALLEST)).clamp(max=1.0))
