"""The clips by name. A new one is a file with one of the functions of `GradientClip` and `WeightClip`, and a
line here.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from chexdist.gan.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class GradientClip(Protocol):
    """A clip of both networks' gradients after their all-reduce, so that every rank scales by the same
    norm.
    """

    def clip_gradients(self, gradients: "list[Tensor]", norm: "Tensor", value: float) -> None:
        """Change `gradients` in place; `norm` is their joint Euclidean norm, a number on the device."""


@runtime_checkable
class WeightClip(Protocol):
    """A clip of the critic's weights after each step of its optimizer."""

    def clip_weights(self, parameters: "Iterable[Tensor]", value: float) -> None:
        """Change `parameters` in place."""


CLIPS: Registry[GradientClip | WeightClip | None] = Registry(
    __name__,
    {
        "weight": "weight",
        "norm": "norm",
        "none": None,
    },
)
