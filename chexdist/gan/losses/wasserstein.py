"""Wasserstein loss (Arjovsky 2017, eq. 2): the critic's mean score of generated images minus that of real
ones.
"""

from torch import Tensor

GENERATOR_SEES_REAL = False


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return fake - real


def generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """Scores [N] -> losses [N]."""
    return -fake
