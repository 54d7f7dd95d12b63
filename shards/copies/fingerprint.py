"""The fingerprint of an image: a thumbnail of its ranks, without uniform borders.

Another window, gamma or bit depth does not change ranks, and what is pasted around a picture is cut off.
"""

import numpy as np

from shards.copies.registration import SIDE
from shards.pixels.fit import Field, resize

LOOKED_AT = 256  # pixels a side, to find borders in
FLAT = 0.06  # of the range of values, in most of a border's row or column
MOST_FLAT = 0.3  # of a side that can be such a border


def fingerprint(field: Field) -> np.ndarray:
    """A field [height, width] in [0, 1] -> uint8 [SIDE, SIDE], the ranks; all 0 for a constant field."""
    small = resize(field, min(field.shape[0], LOOKED_AT), min(field.shape[1], LOOKED_AT))
    thumbnail = resize(_without_borders(small), SIDE, SIDE)
    _, position, count = np.unique(thumbnail, return_inverse=True, return_counts=True)
    if len(count) == 1:
        return np.zeros((SIDE, SIDE), np.uint8)
    ranks = (np.cumsum(count) - (count + 1) / 2)[position].reshape(SIDE, SIDE)
    return np.round(ranks * (255 / (SIDE**2 - 1))).astype(np.uint8)


def _without_borders(field: np.ndarray) -> np.ndarray:
    """Without the rows and columns along the edges that are uniform but for what is pasted over them."""
    for _ in range(2):  # rows, then columns
        low, high = np.quantile(field, (0.02, 0.98), axis=1)
        flat = high - low < FLAT
        most = int(len(flat) * MOST_FLAT)
        first = int(np.argmin(np.append(flat[:most], False)))
        last = int(np.argmin(np.append(flat[::-1][:most], False)))
        field = field[first : len(flat) - last].T
    return field
