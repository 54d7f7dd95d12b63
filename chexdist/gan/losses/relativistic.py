"""Relativistic pairing loss (Jolicoeur-Martineau 2018, "The relativistic discriminator", sec. 4.2).

The critic is to score a real image above the generated one that it is paired with, the generator below: -log
sigmoid(C(x) - C(G(z))) and -log sigmoid(C(G(z)) - C(x)); Huang 2024, "The GAN is dead; long live the GAN!",
eq. 2."""

from torch import Tensor
from torch.nn.functional import softplus

GENERATOR_SEES_REAL = True


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] of pairs -> losses [N]."""
    return softplus(fake - real)


def generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """Scores [N], [N] of pairs -> losses [N]."""
    assert real is not None
    return softplus(real - fake)
