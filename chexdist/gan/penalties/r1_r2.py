"""R1 + R2 (Mescheder 2018, eq. 9 and 10; Huang 2024, sec. 2.3): |grad_x C(x)|^2 / 2 at real and at generated
images.
"""

import torch
from torch import Tensor, nn


def penalty(critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Penalties [N]: that of real image i plus that of generated image i; weights have no part in it."""
    images = torch.cat([real, fake]).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(images, torch.cat([label, label])).sum(), images, create_graph=True)
    at_real, at_fake = slope.square().sum(dim=(1, 2, 3)).chunk(2)
    return (at_real + at_fake) / 2
