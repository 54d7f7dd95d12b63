"""R1 (Mescheder 2018, "Which Training Methods for GANs do actually Converge?", eq. 9): |grad_x C(x)|^2 / 2 at
real images.
"""

import torch
from torch import Tensor, nn


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor, mix: Tensor) -> Tensor:
    """Penalties [N]; generated images and `mix` have no part in it."""
    image = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(image, label).sum(), image, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)) / 2
