"""Hinge loss (Lim and Ye 2017, "Geometric GAN"; Miyato 2018): only scores on the wrong side of the margin
count.
"""

from torch import Tensor
from torch.nn.functional import relu

GENERATOR_SEES_REAL = False


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return relu(1 - real) + relu(1 + fake)


def generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """Scores [N] -> losses [N]."""
    return -fake
