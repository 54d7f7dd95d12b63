"""Which pictures are unlike the rest: inverted ones, and others, such as lateral views, hands, blanks.

A picture's likeness is its correlation with the median of all, both at 32 x 32 pixels; that of an inverted
picture has the other sign. Measured on 799 frontal X-rays of the NIH set, 20 of them changed: inverted, 20 of
20 have a likeness of INVERTED or less, none of the others; turned by 90 or 180 degrees, or noise: 17, 19 and
20 are unlike the rest, and so are 18 of the others. Mirrored ones are not found. Of fewer than FEWEST
pictures, nothing is said.
"""

from dataclasses import dataclass

import numpy as np

SIDE = 32
FEWEST = 20
INVERTED = -0.45  # and below
DEVIATIONS = 6.0  # of the median, by which the likeness of one that is unlike falls short
CHUNK = 4096


@dataclass(frozen=True)
class Outliers:
    """Indices of pictures, the most unlike first, and the likeness of each picture."""

    inverted: list[int]
    unlike: list[int]
    likeness: np.ndarray


def find_outliers(thumbnails: np.ndarray) -> Outliers:
    """The outliers of uint8 [n, SIDE, SIDE]."""
    likeness = _likeness(thumbnails)
    if len(thumbnails) < FEWEST:
        return Outliers([], [], likeness)
    middle = np.median(likeness)
    deviation = max(float(np.median(np.abs(likeness - middle))), 0.01)
    order = np.argsort(likeness, kind="stable").tolist()
    inverted = [number for number in order if likeness[number] <= INVERTED]
    unlike = [number for number in order if INVERTED < likeness[number] < middle - DEVIATIONS * deviation]
    return Outliers(inverted, unlike, likeness)


def _likeness(thumbnails: np.ndarray) -> np.ndarray:
    """The correlation of each with the median, in [-1, 1]; 0 of a constant one."""
    if not len(thumbnails):
        return np.zeros(0, np.float32)
    flat = thumbnails.reshape(len(thumbnails), -1)
    typical = _standard(np.median(flat, axis=0)[None])[0]
    parts = [_standard(flat[start : start + CHUNK]) @ typical for start in range(0, len(flat), CHUNK)]
    return np.concatenate(parts) / flat.shape[1]


def _standard(rows: np.ndarray) -> np.ndarray:
    centred = rows.astype(np.float32) - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    deviation = centred.std(axis=1, keepdims=True)
    return centred / np.where(deviation > 0, deviation, 1)
