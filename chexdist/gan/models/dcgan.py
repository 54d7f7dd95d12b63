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
UPSAMPLINGS = ("transposed", "bilinear", "nearest")


def channels(spec: Spec) -> list[int]:
    """Channels at the sides size/2, size/4, ..., 4."""
    return [spec.width * min(2**level, 8) for level in range(spec.halvings)]


def initialise(module: nn.Module) -> None:
    """Weights of convolutions and of the score from N(0, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def he_initialise(module: nn.Module) -> None:
    """Weights after He 2015 ("Delving Deep into Rectifiers", eq. 14) for rectifiers of slope 0.2, biases
    0.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latent [N, latent], label [N] -> image [N, 1, size, size] in [-1, 1].

    The side is doubled by transposed convolutions, as in the paper, or by interpolation and a 3 x 3
    convolution, which leaves no checkerboard (Odena 2016, "Deconvolution and Checkerboard Artifacts"); the
    last stage then has two, since a single one at the full side would draw the image from linear combinations
    at half of it."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.labelled = LabelledLatent(spec.latent, spec.classes)
        widths = channels(spec)[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.labelled.width, widths[0], 4, bias=False)]
        for wide, narrow in itertools.pairwise(widths):
            layers += [GhostBatchNorm(wide, spec.group), nn.ReLU(), *doubling(wide, narrow, spec.upsampling)]
        layers += [GhostBatchNorm(widths[-1], spec.group), nn.ReLU()]
        if spec.upsampling == "transposed":
            layers += doubling(widths[-1], 1, spec.upsampling)
        else:
            half = max(1, widths[-1] // 2)
            layers += doubling(widths[-1], half, spec.upsampling)
            layers += [GhostBatchNorm(half, spec.group), nn.ReLU()]
            layers += [nn.Conv2d(half, 1, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self.layers.apply(initialise)

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        return self.layers(self.labelled(latent, label)[:, :, None, None])


def doubling(wide: int, narrow: int, upsampling: str) -> list[nn.Module]:
    """[N, wide, H, W] -> [N, narrow, 2 H, 2 W]; `upsampling` is transposed, or a mode of interpolation."""
    if upsampling == "transposed":
        return [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]
    return [
        nn.Upsample(scale_factor=2, mode=upsampling),
        nn.Conv2d(wide, narrow, 3, padding=1, bias=False),
    ]


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
        # the paper's N(0, 0.02) counts on batch norm: without it, scores start a hundred times too small
        begin = he_initialise if spec.norm == "none" else initialise
        self.features.apply(begin)
        self.head.apply(begin)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(self.features(image), label)
