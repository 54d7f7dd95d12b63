"""What a part of an evaluation is: it sees each generated image once, and concludes from what it kept."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from chexdist.evaluation.findings import Findings

NO_CLASSES = "the model is unconditional, so its images are of no class"


@dataclass(frozen=True)
class Observed:
    """What a part kept of generated images, a row each, on the CPU.

    whole: [n, ...] of images of any class; labels: int64 [n], their classes, 0 without classes; by_class:
    [n, ...] of further images of each class by its name, in label order; empty without classes.
    """

    whole: Tensor
    labels: Tensor
    by_class: dict[str, Tensor]


class Part(Protocol):
    """Called in this order: `prepare`, `observe` for each chunk of generated images, `conclude`."""

    def prepare(self) -> None:
        """Read what is needed of real images, with its progress shown.

        Raises:
            WorkError: a shard is damaged.
        """

    def observe(self, images: Tensor) -> Tensor:
        """Images [n, 1, S, S] in [-1, 1] on the device -> what is kept of them [n, ...], on the CPU."""

    def conclude(self, observed: Observed, findings: Findings) -> None:
        """Add the numbers, or why they are missing."""
