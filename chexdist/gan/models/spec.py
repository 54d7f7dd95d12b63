"""What a network is built from: sizes, classes, the critic's norm and the ghost batch norm group."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """`classes` is 0 for an unconditional network; `group` is the number of images that share batch
    statistics; `upsampling` is how a convolutional generator doubles the side.
    """

    size: int
    latent: int
    width: int
    classes: int
    norm: str
    group: int
    upsampling: str = "transposed"

    @property
    def halvings(self) -> int:
        """How often the side halves from `size` to 4."""
        return self.size.bit_length() - 3
