"""The vanilla GAN: multilayer perceptrons (Goodfellow 2014, "Generative Adversarial Nets").

As there, weights start uniform in +-0.05; the critic has leaky rectifiers where the paper has maxout with
dropout."""

import itertools

from torch import Tensor, nn

from chexdist.gan.models.conditioning import LabelledLatent, ProjectionHead
from chexdist.gan.models.spec import Spec

NORMS = ("none",)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -0.05, 0.05)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latent [N, latent], label [N] -> image [N, 1, size, size] in [-1, 1]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.size = spec.size
        self.labelled = LabelledLatent(spec.latent, spec.classes)
        widths = [self.labelled.width, 4 * spec.width, 8 * spec.width, 16 * spec.width]
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.Linear(narrow, wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], spec.size**2), nn.Tanh())
        self.layers.apply(_initialise)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        return self.layers(self.labelled(latent, label)).view(-1, 1, self.size, self.size)


class Critic(nn.Module):
    """Image [N, 1, size, size], label [N] -> score [N]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = [spec.size**2, 8 * spec.width, 4 * spec.width]
        layers: list[nn.Module] = [nn.Flatten()]
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.head = ProjectionHead(widths[-1], spec.classes)
        self.features.apply(_initialise)
        self.head.apply(_initialise)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(self.features(image), label)
