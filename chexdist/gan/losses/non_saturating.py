"""Non-saturating loss (Goodfellow 2014, sec. 3): -log D(x) - log(1 - D(G(z))) and -log D(G(z)), with D = sigmoid(score)."""

from torch import Tensor
from torch.nn.functional import softplus


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return softplus(-real) + softplus(fake)


def generator(fake: Tensor) -> Tensor:
    """Scores [N] -> losses [N]."""
    return softplus(-fake)
