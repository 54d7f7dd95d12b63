"""Decides which drawn images may leave: each, as it would be exported, passes the audit or is a near-copy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from chexdist.errors import WorkError
from chexdist.evaluation.copies import Audit
from chexdist.generation.pictures import Picture, Pixels
from chexdist.metrics.memorisation import METHOD
from chexdist.metrics.preprocess import levels

PASSED, NOT_AUDITED = "passed", "not audited"
REPLACED, LEFT_OUT = "near-copy, replaced", "near-copy, left out"


@dataclass(frozen=True)
class Judged:
    """A drawn image in whole levels, its index, its class or none, its likeness where it was audited, and
    whether it is a near-copy of a training image.
    """

    pixels: Pixels
    index: int
    label: str | None
    likeness: float | None
    copied: bool

    def picture(self) -> Picture:
        """As it leaves; not for a near-copy."""
        return Picture(self.pixels, self.index, self.label, NOT_AUDITED if self.likeness is None else PASSED)

    def row(self, file: str, seed: str, near_copy: str) -> tuple[object, ...]:
        """Its line in the index, with the words for a near-copy."""
        audit = near_copy if self.copied else self.picture().audit
        likeness = "" if self.likeness is None else f"{self.likeness:.4f}"
        return (file, self.label or "", seed, self.index, audit, likeness)


def judged(
    images: Tensor, indices: Iterable[int], labels: Iterable[str | None], bits: int, audit: Audit | None
) -> Iterator[Judged]:
    """Images [N, 1, S, S] in [-1, 1] at 8 or 16 bits, compared with the training images as rounded.

    Raises:
        WorkError: they are not finite.
    """
    most = 2**bits - 1
    try:
        levels(images)
    except ValueError:
        raise WorkError(
            "this checkpoint draws pictures that are not finite: take an earlier --checkpoint"
        ) from None
    whole = ((images.float().clamp(-1, 1) + 1) * (most / 2)).round()
    pixels = whole[:, 0].cpu().numpy().astype(np.uint8 if bits == 8 else np.uint16)
    likeness = audit.likeness(whole / (most / 2) - 1).tolist() if audit else [None] * len(images)
    for picture, index, label, value in zip(pixels, indices, labels, likeness, strict=True):
        yield Judged(picture, index, label, value, bool(audit and value > audit.threshold.value))


def memorised(copied: int, drawn: int, what: str = "pictures") -> WorkError:
    """Most of what was drawn are near-copies: nothing leaves."""
    return WorkError(
        f"{copied} of the first {drawn} {what} are near-copies of training images: this generator has "
        "memorised; take an earlier --checkpoint, or train on more X-rays"
    )


def audit_facts(audit: Audit | None, drawn: int, copied: int, done: str) -> dict[str, object] | None:
    """What the audit was and found, for whoever gets the pictures; None without one. `done` is what became of
    near-copies: replaced, or left_out.
    """
    if audit is None:
        return None
    return {
        "method": METHOD,
        "training_images": len(audit.references),
        "threshold": round(audit.threshold.value, 4),
        "real_images_above": round(audit.threshold.rate, 4),
        "real_images_compared": audit.threshold.images,
        "drawn": drawn,
        f"near_copies_{done}": copied,
    }
