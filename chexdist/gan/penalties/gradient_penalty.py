"""Two-sided gradient penalty (Gulrajani 2017, eq. 3): (|grad_x C(x)| - 1)^2 at x between a real and a
generated image.
"""

import torch
from torch import Tensor, nn

SQUARE_FLOOR = 1e-12  # the derivative of a square root at 0 is infinite


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor, mix: Tensor) -> Tensor:
    """Penalties [N]; image i is judged at real + mix[i] * (fake - real)."""
    between = torch.lerp(real, fake, mix[:, None, None, None]).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between, label).sum(), between, create_graph=True)
    norm = (slope.square().sum(dim=(1, 2, 3)) + SQUARE_FLOOR).sqrt()
    return (norm - 1).square()
