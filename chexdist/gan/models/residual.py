"""Residual GAN without any norm: blocks that start as the identity, bilinear resampling.

After Huang 2024, "The GAN is dead; long live the GAN! A modern baseline GAN", sec. 3: no batch statistics, no
transposed convolution, Fixup initialisation (Zhang 2019), a learned constant at 4 px that the latent scales.
Its convolutions are plain 3 x 3 where the paper has grouped ones between 1 x 1 ones, which CPUs compute
slowly. Beyond the paper, the latent also scales the channels within each block of the generator, as skip-z
does in BigGAN (Brock 2018, "Large scale GAN training", sec. 3.2)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from chexdist.gan.models.conditioning import LabelledLatent, ProjectionHead
from chexdist.gan.models.spec import Spec

NORMS = ("none",)
SLOPE = 0.2


def channels(spec: Spec) -> list[int]:
    """Channels at the sides size, size/2, ..., 4: doubled from `width` up to 8 * `width`."""
    return [spec.width * min(2**level, 8) for level in range(spec.halvings + 1)]


def convolution(narrow: int, wide: int, side: int, gain: float = 1.0) -> nn.Conv2d:
    """Side x side, same size; weights after He 2015, for a rectifier of slope 0.2, times `gain`; biases 0."""
    layer = nn.Conv2d(narrow, wide, side, padding=side // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
    with torch.no_grad():
        layer.weight.mul_(gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class Block(nn.Module):
    """x + conv(rectified gain * conv(rectified x)), of which the last convolution starts at 0.

    The first one is scaled by L^(-1/4) for L blocks of two layers in the network (Zhang 2019, "Fixup
    initialization", sec. 3.3, eq. 5), so that the output changes by the step size however deep it is.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3, blocks**-0.25)
        self.last = convolution(channels, channels, 3, 0.0)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Features [N, channels, S, S] and gains [N, channels], None for 1 -> features of the same shape."""
        inner = self.first(functional.leaky_relu(x, SLOPE))
        if gain is not None:
            inner = inner * gain[:, :, None, None]
        return x + self.last(functional.leaky_relu(inner, SLOPE))


def gains(latent: int, channels: int) -> nn.Linear:
    """Latent [N, latent] -> gains [N, channels], which begin with a mean of 1 and a deviation of 1/2."""
    layer = nn.Linear(latent, channels)
    nn.init.normal_(layer.weight, 0.0, 0.5 * latent**-0.5)
    nn.init.ones_(layer.bias)
    return layer


class Generator(nn.Module):
    """Latent [N, latent], label [N] -> image [N, 1, size, size] in [-1, 1]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = channels(spec)[::-1]
        self.labelled = LabelledLatent(spec.latent, spec.classes)
        self.scale = nn.Linear(self.labelled.width, widths[0], bias=False)
        nn.init.normal_(self.scale.weight, 0.0, self.labelled.width**-0.5)
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        doublings: list[nn.Module] = [nn.Identity()]
        for wide, narrow in itertools.pairwise(widths):
            narrowed = nn.Identity() if wide == narrow else convolution(wide, narrow, 1)
            doublings.append(nn.Sequential(narrowed, nn.Upsample(scale_factor=2, mode="bilinear")))
        self.doublings = nn.ModuleList(doublings)
        self.blocks = nn.ModuleList(Block(width, len(widths)) for width in widths)
        self.gains = nn.ModuleList(gains(self.labelled.width, width) for width in widths)
        self.image = nn.Sequential(convolution(widths[-1], 1, 1), nn.Tanh())

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        labelled = self.labelled(latent, label)
        x = self.scale(labelled)[:, :, None, None] * self.constant
        for doubling, block, gain in zip(self.doublings, self.blocks, self.gains, strict=True):
            x = block(doubling(x), gain(labelled))
        return self.image(x)


class Critic(nn.Module):
    """Image [N, 1, size, size], label [N] -> score [N]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = channels(spec)
        layers: list[nn.Module] = [convolution(1, widths[0], 1), Block(widths[0], len(widths))]
        for narrow, wide in itertools.pairwise(widths):
            layers.append(nn.AvgPool2d(2))
            if wide != narrow:
                layers.append(convolution(narrow, wide, 1))
            layers.append(Block(wide, len(widths)))
        last = nn.Conv2d(widths[-1], widths[-1], 4)
        nn.init.kaiming_normal_(last.weight, a=SLOPE, nonlinearity="leaky_relu")
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.features = nn.Sequential(*layers, last, nn.LeakyReLU(SLOPE), nn.Flatten())
        self.head = ProjectionHead(widths[-1], spec.classes)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(self.features(image), label)
