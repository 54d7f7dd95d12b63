"""Weight clipping (Arjovsky 2017, "Wasserstein GAN", algorithm 1, line 7), which bounds how steep the critic
can be.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_weights(parameters: Iterable[Tensor], value: float) -> None:
    """Clamp every weight to [-value, value] in place."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.clamp_(-value, value)
