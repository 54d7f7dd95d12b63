"""Non-saturating loss (Goodfellow 2014, sec. 3): -log D(x) - log(1 - D(G(z))) and -log D(G(z)), D =
sigmoid(score).
"""

from torch import Tensor
from torch.nn.functional import softplus

GENERATOR_SEES_REAL = False


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return softplus(-real) + softplus(fake)


def generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """Scores [N] -> losses [N]."""
    return softplus(-fake)
