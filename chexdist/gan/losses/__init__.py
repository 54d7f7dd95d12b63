"""The adversarial losses by name. A new one is a file with the two functions of `Loss`, and a line here.

One loss for each image, never a mean, so that the sum over any ranks is exact.
"""

from typing import TYPE_CHECKING, Protocol

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Protocol):
    """What the file of a loss holds. Scores and losses are [N]; pair i is real image i and generated image i
    of the same class.
    """

    GENERATOR_SEES_REAL: bool
    """Whether the generator's loss depends on the scores of real images, which cost a forward pass of the
    critic.
    """

    def critic(self, real: "Tensor", fake: "Tensor") -> "Tensor":
        """The critic's losses."""

    def generator(self, fake: "Tensor", real: "Tensor | None") -> "Tensor":
        """The generator's losses; `real` is None where the loss does not see it."""


LOSSES: Registry[Loss] = Registry(
    __name__,
    {
        "non-saturating": "non_saturating",
        "wasserstein": "wasserstein",
        "hinge": "hinge",
        "relativistic": "relativistic",
    },
)
