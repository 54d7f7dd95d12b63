"""Weight clipping (Arjovsky 2017, "Wasserstein GAN", algorithm 1, line 7), which bounds how steep the critic
can be.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_weights(parameters: Iterable[Tensor], value: float) -> None:
    """Clamp every weight to [-value, value] in place."""
    weights = list(parameters)
    with torch.no_grad():
        torch._foreach_clamp_min_(weights, -value)
        torch._foreach_clamp_max_(weights, value)
