"""Wasserstein loss (Arjovsky 2017, eq. 2): the critic's mean score of generated images minus that of real ones."""

from torch import Tensor


def critic(real: Tensor, fake: Tensor) -> Tensor:
    """Scores [N], [N] -> losses [N]."""
    return fake - real


def generator(fake: Tensor) -> Tensor:
    """Scores [N] -> losses [N]."""
    return -fake
