"""The clips by name: of gradients before the optimizer's step, or of the critic's weights after it.

Gradients are clipped after their reduction over the ranks, so that every rank scales by the same norm.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def _scale_to_norm(gradients: list[Tensor], norm: Tensor, value: float) -> None:
    """Scale `gradients` in place so that their joint norm is `value` at most (Pascanu 2013, algorithm 1)."""
    torch._foreach_mul_(gradients, (value / (norm + 1e-6)).clamp(max=1.0))


def _clamp_weights(parameters: Iterable[Tensor], value: float) -> None:
    """Clamp every weight to [-value, value] in place (Arjovsky 2017, algorithm 1, line 7)."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.clamp_(-value, value)


GRADIENT_CLIPS: dict[str, Callable[[list[Tensor], Tensor, float], None]] = {"norm": _scale_to_norm}
WEIGHT_CLIPS: dict[str, Callable[[Iterable[Tensor], float], None]] = {"weight": _clamp_weights}
