"""The augmentations by name, applied to both real and generated images, so that the generator does not learn
them.

A new one is a file with what `Augmentation` names, and a line here.
"""

from typing import TYPE_CHECKING, Protocol

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Augmentation(Protocol):
    """What the file of an augmentation holds."""

    DRAWS: int
    """Uniform numbers that each image takes."""

    def augment(self, images: "Tensor", draws: "Tensor") -> "Tensor":
        """Images [N, 1, S, S] in [-1, 1] and draws [N, DRAWS] in [0, 1) -> images of the same shape.

        Differentiable by the images; image i depends on images[i] and draws[i] only.
        """


AUGMENTS: Registry[Augmentation | None] = Registry(
    __name__,
    {
        "translate": "translate",
        "translate-color": "translate_color",
        "affine-color": "affine_color",
        "none": None,
    },
)
