"""The GANs by name. A new one is a file with the networks of `Family`, and a line here.

Without classes, labels are ignored.
"""

from typing import TYPE_CHECKING, Protocol

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from chexdist.gan.models.spec import Spec


class Family(Protocol):
    """What the file of a GAN holds."""

    NORMS: tuple[str, ...]
    """What its critic may be normalised with, its paper's choice first; a literal, since checks read it from
    the source.
    """

    def Generator(self, spec: "Spec") -> "nn.Module":
        """A fresh network: latents [N, latent], labels [N] (int64) -> images [N, 1, size, size] in [-1,
        1].
        """

    def Critic(self, spec: "Spec") -> "nn.Module":
        """A fresh network: images [N, 1, size, size] in [-1, 1], labels [N] -> scores [N]."""


FAMILIES: Registry[Family] = Registry(
    __name__,
    {
        "vanilla": "vanilla",
        "wgan": "wgan",
        "dcgan": "dcgan",
        "residual": "residual",
    },
)
