"""DCGAN: strided convolutions, batch norm, weights from N(0, 0.02) (Radford 2016, "Unsupervised
Representation Learning").

The side doubles from 4 to `size` and the channels halve down to `width`; no layer has more than 8 * `width`
channels. Batch norm is in both networks, as in the paper, unless a penalty asks for another norm in the
critic."""

import itertools

from torch import Tensor, nn

from chexdist.gan.models.conditioning import LabelledLatent, ProjectionHead
from chexdist.gan.models.norms import GhostBatchNorm, critic_norm
from chexdist.gan.models.spec import Spec

NORMS = ("batch", "none", "instance", "group")


def channels(spec: Spec) -> list[int]:
    """Channels at the sides size/2, size/4, ..., 4."""
    return [spec.width * min(2**level, 8) for level in range(spec.halvings)]


def initialise(module: nn.Module) -> None:
    """Weights of convolutions and of the score from N(0, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latent [N, latent], label [N] -> image [N, 1, size, size] in [-1, 1]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.labelled = LabelledLatent(spec.latent, spec.classes)
        widths = channels(spec)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.labelled.width, widths[0], 4, bias=False)]
        for wide, narrow in itertools.pairwise(widths):
            layers += [GhostBatchNorm(wide, spec.group), nn.ReLU()]
            layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]
        layers += [GhostBatchNorm(widths[-1], spec.group), nn.ReLU()]
        layers += [nn.ConvTranspose2d(widths[-1], 1, 4, stride=2, padding=1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.layers.apply(initialise)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        return self.layers(self.labelled(latent, label)[:, :, None, None])


class Critic(nn.Module):
    """Image [N, 1, size, size], label [N] -> score [N]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = channels(spec)
        layers: list[nn.Module] = [nn.Conv2d(1, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for narrow, wide in itertools.pairwise(widths):
            # A bias before a norm has no effect, and its gradient would be rounding noise.
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=spec.norm == "none")]
            layers += [critic_norm(spec.norm, wide, spec.group), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = ProjectionHead(widths[-1] * 16, spec.classes)
        self.features.apply(initialise)
        self.head.apply(initialise)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(self.features(image), label)
