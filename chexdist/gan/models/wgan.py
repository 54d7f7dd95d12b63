"""WGAN: a convolutional critic without batch norm, against the DCGAN generator.

Arjovsky 2017 ("Wasserstein GAN", sec. 4.1) takes the DCGAN generator; Gulrajani 2017 ("Improved Training of
Wasserstein GANs", sec. 4) leaves batch norm out of the critic, since the penalty is per image, and
initialises it after He 2015."""

import itertools

from torch import Tensor, nn

from chexdist.gan.models.conditioning import ProjectionHead
from chexdist.gan.models.dcgan import Generator as Generator  # noqa: PLC0414 - this family has it too
from chexdist.gan.models.dcgan import channels, he_initialise
from chexdist.gan.models.norms import critic_norm
from chexdist.gan.models.spec import Spec

NORMS = ("none", "instance", "group")
UPSAMPLINGS = ("transposed", "bilinear", "nearest")


class Critic(nn.Module):
    """Image [N, 1, size, size], label [N] -> score [N]."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = [1, *channels(spec)]
        layers: list[nn.Module] = []
        for level, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            norm = spec.norm if level else "none"
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=norm == "none")]
            layers += [critic_norm(norm, wide, spec.group), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = ProjectionHead(widths[-1] * 16, spec.classes)
        self.features.apply(he_initialise)
        self.head.apply(he_initialise)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return self.head(self.features(image), label)
