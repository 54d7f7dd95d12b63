"""The GANs by name. A new one is a file with its networks, a line here, and its norms in `config.rules`.

Every generator maps latents [N, latent] and labels [N] (int64) to images [N, 1, size, size] in [-1, 1]; every critic maps
such images and labels to scores [N]. Without classes, labels are ignored.
"""

from torch import nn

from chexdist.gan.models import dcgan, vanilla, wgan
from chexdist.gan.models.spec import Spec

FAMILIES: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "vanilla": (vanilla.Generator, vanilla.Critic),
    "wgan": (dcgan.Generator, wgan.Critic),
    "dcgan": (dcgan.Generator, dcgan.Critic),
}


def build_generator(name: str, spec: Spec) -> nn.Module:
    """A freshly initialised generator of the named GAN."""
    return FAMILIES[name][0](spec)


def build_critic(name: str, spec: Spec) -> nn.Module:
    """A freshly initialised critic of the named GAN."""
    return FAMILIES[name][1](spec)
