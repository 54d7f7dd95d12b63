"""How a field gets into the square: which part of it is shown where, and how it is resampled.

Proportions are anatomy, so as a rule the whole field is kept, pixels that are not square are given their
shape, and it is scaled to fit and centred on black (`pad`). `crop` fills the square with the middle of the
field; `stretch` gives proportions up. A field that is square within 1 % is scaled to the square itself.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from shards.pixels.reduced import Reduced

FITS = ("pad", "crop", "stretch")
SQUARE_WITHIN = 0.01

Field = np.ndarray | Reduced  # a picture [height, width], float32 in [0, 1], bone bright; or samples of it


@dataclass(frozen=True)
class Fitting:
    """Which part of the field is shown where: [top, left, bottom, right], ends excluded.

    `source` in pixels of the field, as far as they are cut; `target` in pixels of the square.
    """

    source: tuple[float, float, float, float]
    target: tuple[int, int, int, int]


def fitting(shape: tuple[int, int], size: int, aspect: float = 1.0, fit: str = "pad") -> Fitting:
    """Where a field of `shape` goes; `aspect`: of its pixels, height over width."""
    rows, columns = shape
    whole, square = (0.0, 0.0, float(rows), float(columns)), (0, 0, size, size)
    height, width = rows * aspect, columns
    longer, shorter = max(height, width), min(height, width)
    if fit == "stretch" or longer - shorter <= SQUARE_WITHIN * longer:
        return Fitting(whole, square)
    if fit == "crop":
        most_rows, most_columns = min(rows, shorter / aspect), min(columns, shorter)
        top, left = (rows - most_rows) / 2, (columns - most_columns) / 2
        return Fitting((top, left, top + most_rows, left + most_columns), square)
    own_rows, own_columns = (max(1, round(size * side / longer)) for side in (height, width))
    top, left = (size - own_rows) // 2, (size - own_columns) // 2
    return Fitting(whole, (top, left, top + own_rows, left + own_columns))


def to_square(field: Field, size: int, aspect: float = 1.0, fit: str = "pad") -> np.ndarray:
    """The field in the square, black around it: float32 [size, size] in [0, 1]."""
    plan = fitting((field.shape[0], field.shape[1]), size, aspect, fit)
    top, left, bottom, right = plan.target
    square = np.zeros((size, size), np.float32)
    square[top:bottom, left:right] = resize(field, bottom - top, right - left, plan.source)
    return square


def resize(
    field: Field, rows: int, columns: int, source: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Box filter when shrinking (area average at whole factors), else bicubic; float32 in [0, 1].

    `source`: the part [top, left, bottom, right] to take, all by default.
    """
    height, width = field.shape[0], field.shape[1]
    top, left, bottom, right = source or (0.0, 0.0, float(height), float(width))
    if isinstance(field, Reduced):
        return field.resize(rows, columns, (top, left, bottom, right)).clip(0, 1)
    shrinks = rows <= bottom - top and columns <= right - left
    kernel = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(image.resize((columns, rows), kernel, (left, top, right, bottom))).clip(0, 1)
