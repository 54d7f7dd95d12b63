"""Translates a configuration into the `Spec` from which its networks are built."""

from chexdist.config.tree import Config
from chexdist.gan.models.spec import Spec


def spec_of(config: Config, classes: int) -> Spec:
    """`classes` is the number of classes of the training split; an unconditional network knows none."""
    model = config.model
    return Spec(
        size=model.size,
        latent=model.latent,
        width=model.width,
        classes=classes if model.conditional else 0,
        norm=model.norm or "none",
        group=config.train.group,
        upsampling=model.upsampling,
    )
