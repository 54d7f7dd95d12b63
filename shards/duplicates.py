"""Which images are near-duplicates: re-encoded, scaled, cropped, shifted, turned, padded, mirrored, inverted.

The fingerprint of an image is a thumbnail of its ranks, without uniform borders: another window, gamma or
bit depth does not change it. `nearest` finds for each the few that look most like it, and `registration` lays
each of these over it; pairs that then agree by THRESHOLD or more are near-duplicates. How many of each kind
are found, and how many others are taken for such, is in docs/large-sets.md, and is measured by
tests/shards/test_duplicates.py. A false match only keeps two patients in one split.
"""

from collections.abc import Callable

import numpy as np

from shards.nearest import VIEWS, Index, descriptors, viewed
from shards.pixels.fit import Field, resize
from shards.registration import SIDE, scores

THRESHOLD = 0.95
METHOD = f"correlation of {SIDE} x {SIDE} thumbnails of ranks, registered"
LOOKED_AT = 256  # pixels a side, to find borders in
FLAT = 0.06  # of the range of values, in most of a border's row or column
MOST_FLAT = 0.3  # of a side that can be such a border
WORTH = 0.8  # the least correlation of descriptors for which a pair is registered
CHUNK = 1024  # images looked for at a time
PAIRS = 64  # pairs registered at a time


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


Advance = Callable[[int], None]


def pairs(fingerprints: np.ndarray, advance: Advance = lambda count: None) -> list[tuple[int, int]]:
    """The near-duplicates among uint8 [n, SIDE, SIDE], as pairs of indices; `advance` gets images looked for.

    An array in memory or on disk (np.memmap): it is read in parts. Held are 1.3 kB for each image.
    """
    n = len(fingerprints)
    if n < 2:
        return []
    chunks = [slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    index = Index(np.concatenate([descriptors(fingerprints[chunk]) for chunk in chunks]))
    found: set[tuple[int, int]] = set()
    for chunk in chunks:
        own = np.arange(chunk.start, chunk.stop)
        for mirrored, zoom, shown in VIEWS:
            looked_for = descriptors(viewed(fingerprints[chunk], mirrored, zoom))
            near, size = index.nearest(looked_for, own, shown)
            row, column = np.nonzero((size >= WORTH) & (near >= 0))
            first, second = own[row], near[row, column]
            if zoom == 1.0:  # whole pictures look for each other: the one with the higher number is enough
                back = (second >= chunk.start) & (second < chunk.stop) & (first < second)
                there = (near[np.where(back, second - chunk.start, 0)] == first[:, None]).any(axis=1)
                first, second = first[~(back & there)], second[~(back & there)]
            new = [
                (min(a, b), max(a, b)) not in found
                for a, b in zip(first.tolist(), second.tolist(), strict=True)
            ]
            found |= _registered(fingerprints, first[new], second[new], mirrored, zoom)
        advance(len(own))
    return sorted(found)


def _registered(
    fingerprints: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: bool, zoom: float
) -> set[tuple[int, int]]:
    """Those of the pairs that are near-duplicates once one is laid over the other."""
    found = set()
    for start in range(0, len(first), PAIRS):
        a, b = first[start : start + PAIRS], second[start : start + PAIRS]
        moving = fingerprints[a][:, :, ::-1] if mirrored else fingerprints[a]
        agree = scores(moving, fingerprints[b], np.full(len(a), zoom, np.float32)) >= THRESHOLD
        found |= {(min(x, y), max(x, y)) for x, y in zip(a[agree].tolist(), b[agree].tolist(), strict=True)}
    return found
