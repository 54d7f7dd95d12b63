"""The shape of a pixel: how many times as high as wide it is, by whichever attribute states it."""

import math
from typing import TYPE_CHECKING

from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

ATTRIBUTES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""Vertical \\ horizontal, the first that is there counts (PS3.3 10.7.1.3, C.8.7.1.1.14, C.7.6.3.1.7)."""
SQUARE_WITHIN = 0.01  # less is measuring error, and leaves the pixels as they are
MOST = 10.0


def pixel_aspect(dataset: "Dataset") -> tuple[float, str | None]:
    """Height over width of a pixel, exactly 1 when nearly square; a note when two attributes disagree.

    Raises Quarantined when it is more than MOST or less than its inverse: no detector is like that.
    """
    stated = {name: ratio for name in ATTRIBUTES if (ratio := _ratio(dataset, name)) is not None}
    if not stated:
        return 1.0, None
    name, aspect = next(iter(stated.items()))
    if not 1 / MOST <= aspect <= MOST:
        raise Quarantined(
            Code.UNSUPPORTED_PIXELS, f"{name} says that a pixel is {aspect:.3g} times as high as wide"
        )
    others = [other for other, ratio in stated.items() if abs(math.log(ratio / aspect)) > 2 * SQUARE_WITHIN]
    note = f"{name} and {others[0]} disagree on the proportions: {name} is taken" if others else None
    return (1.0 if abs(math.log(aspect)) <= SQUARE_WITHIN else aspect), note


def _ratio(dataset: "Dataset", name: str) -> float | None:
    """Vertical over horizontal; None when the attribute is absent, or holds no two positive numbers."""
    try:
        vertical, horizontal = (float(number) for number in dataset.get(name) or ())
        ratio = vertical / horizontal
    except (ValueError, TypeError, ArithmeticError):
        return None
    return ratio if vertical > 0 and horizontal > 0 and math.isfinite(ratio) and ratio > 0 else None
