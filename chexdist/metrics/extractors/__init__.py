"""The frozen networks that turn images into features, by name.

A new one is a file with the three names of `Definition`, and a line here. The name is in every protocol, with
the digest of the parameters. `metrics.extractor` loads one.
"""

from typing import TYPE_CHECKING, Protocol

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import nn


class Definition(Protocol):
    """What the file of an extractor holds. FEATURES: numbers per image; INPUT_SIZE: side in pixels."""

    FEATURES: int
    INPUT_SIZE: int

    def load(self) -> "tuple[nn.Module, str]":
        """The network on the CPU and the SHA-256 that pins its parameters.

        It maps images [N, 3, INPUT_SIZE, INPUT_SIZE] float32, as `preprocess` makes them, to features [N,
        FEATURES] float32.

        Raises:
            UserError: its weights are not installed.
            WorkError: they are other ones than those that the file names.
        """


EXTRACTORS: Registry[Definition] = Registry(
    __name__,
    {
        "efficientnet-lite0": "efficientnet_lite0",
        "random-conv": "random_conv",
    },
)
