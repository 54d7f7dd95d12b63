"""The penalties on the critic's gradient, by name. A new one is a file with the function of `Penalty`, and a
line here.
"""

from typing import TYPE_CHECKING, Protocol

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn


class Penalty(Protocol):
    """What the file of a penalty holds."""

    def penalty(
        self, critic: "nn.Module", real: "Tensor", fake: "Tensor", label: "Tensor", mix: "Tensor"
    ) -> "Tensor":
        """A penalty for each image [N], still to be multiplied by `penalty.weight`; differentiable by the
        critic's parameters.

        Args:
            critic: maps images [N, 1, S, S] and labels [N] to scores [N].
            real, fake: images [N, 1, S, S] in [-1, 1].
            label: the class of both, [N].
            mix: [N], uniform in [0, 1), of the index in the global batch.
        """


PENALTIES: Registry[Penalty | None] = Registry(
    __name__,
    {
        "gp": "gradient_penalty",
        "r1": "r1",
        "r1+r2": "r1_r2",
        "none": None,
    },
)
