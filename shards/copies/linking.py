"""Which images are near-duplicates: re-encoded, scaled, cropped, shifted, turned, padded, mirrored, inverted.

The few images that look most like each are laid over it; pairs that then agree by THRESHOLD or more are
near-duplicates. How many of each kind are found, and how many others are taken for such, is in
docs/large-sets.md. A false match only keeps two patients in one split.
"""

from collections.abc import Callable

import numpy as np

from shards.copies.nearest import VIEWS, Index, descriptors
from shards.copies.registration import SIDE, scores

THRESHOLD = 0.97
METHOD = f"correlation of {SIDE} x {SIDE} thumbnails of ranks, registered"
WORTH = 0.65  # the least correlation of descriptors for which a pair is registered
CHUNK = 8, 256  # the fewest and the most images looked for at a time
CHUNKS = 256  # as many are enough for all workers to end at about the same time
PAIRS = 64  # pairs registered at a time

Pair = tuple[int, int]
Advance = Callable[[int], None]


def chunks(count: int) -> list[range]:
    """The images 0..count-1 in the batches that are looked for: what is found depends on nothing else."""
    fewest, most = CHUNK
    step = min(max(count // CHUNKS, fewest), most)
    return [range(start, min(start + step, count)) for start in range(0, count, step)]


def pairs(fingerprints: np.ndarray) -> list[Pair]:
    """The near-duplicates among uint8 [n, SIDE, SIDE], as sorted pairs of indices, the smaller one first."""
    if len(fingerprints) < 2:
        return []
    index = Index.of(fingerprints)
    own = [np.arange(chunk.start, chunk.stop) for chunk in chunks(len(fingerprints))]
    return sorted({pair for some in own for pair in linked(index, fingerprints, some)})


def linked(index: Index, fingerprints: np.ndarray, own: np.ndarray) -> list[Pair]:
    """The near-duplicates of the images `own` [m] (indices), as `pairs` gives them.

    `fingerprints`: in memory or on disk (np.memmap), of which these and those like them are read; `index` is
    of them all.
    """
    found: set[Pair] = set()
    for mirrored, zoom, shown in VIEWS:
        looked_for = descriptors(fingerprints[own], mirrored, zoom)
        near, likeness = index.nearest(looked_for, own, shown)
        row, column = np.nonzero((np.abs(likeness) >= WORTH) & (near >= 0))
        first, second, sign = own[row], near[row, column], np.sign(likeness[row, column])
        new = np.array([ordered(*pair) not in found for pair in zip(first, second, strict=True)], bool)
        if zoom == 1.0:  # whole pictures look for each other: once is enough
            new &= ~_met_before(own, near, first, second)
        agreeing = _registered(fingerprints, fingerprints, first[new], second[new], sign[new], mirrored, zoom)
        found |= {ordered(*pair) for pair in agreeing}
    return sorted(found)


def ordered(first: int, second: int) -> Pair:
    """The pair, the smaller index first."""
    return (int(first), int(second)) if first < second else (int(second), int(first))


def _met_before(own: np.ndarray, near: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the second of a pair is one of `own`, after the first, and has this first among its nearest."""
    place = np.searchsorted(own, second).clip(max=len(own) - 1)
    later = (own[place] == second) & (first < second)
    return np.asarray(later & (near[place] == first[:, None]).any(axis=1))


def pairs_between(new: np.ndarray, held: np.ndarray, advance: Advance = lambda count: None) -> list[Pair]:
    """The near-duplicates of uint8 [n, SIDE, SIDE] among [m, SIDE, SIDE], as (index in new, index in held).

    `advance` gets images of `new` looked for. The new pictures look for the held ones and for their middles,
    so that neither need be the whole one; the time grows with the new ones, but for the index.
    """
    if not len(new) or not len(held):
        return []
    found: set[Pair] = set()
    middle = min(zoom for _, zoom, _ in VIEWS)
    for shown_zoom in (1.0, middle):
        index = Index.of(held, shown_zoom)
        for images in chunks(len(new)):
            start, chunk = images.start, new[images.start : images.stop]
            for mirrored, zoom, shown in VIEWS:
                if shown_zoom != 1.0 != zoom:
                    continue
                looked_for = descriptors(chunk, mirrored, zoom)
                near, likeness = index.nearest(looked_for, np.full(len(chunk), -1), shown)
                row, column = np.nonzero((np.abs(likeness) >= WORTH) & (near >= 0))
                first, second, sign = row + start, near[row, column], np.sign(likeness[row, column])
                if shown_zoom == 1.0:
                    found |= set(_registered(new, held, first, second, sign, mirrored, zoom))
                else:
                    turned = _registered(held, new, second, first, sign, mirrored, shown_zoom)
                    found |= {(a, b) for b, a in turned}
            advance(len(chunk) if shown_zoom != 1.0 else 0)
    return sorted(found)


def _registered(
    moving: np.ndarray,
    still: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    sign: np.ndarray,
    mirrored: bool,
    zoom: float,
) -> list[Pair]:
    """Those of the pairs (index in moving, in still) that agree once laid over; `sign` -1: inverted."""
    found: list[Pair] = []
    for start in range(0, len(first), PAIRS):
        part = slice(start, start + PAIRS)
        a, b = first[part], second[part]
        laid = moving[a][:, :, ::-1] if mirrored else moving[a]
        laid = np.where(sign[part, None, None] < 0, 255 - laid, laid)
        agree = scores(laid, still[b], np.full(len(a), zoom, np.float32)) >= THRESHOLD
        found += zip(a[agree].tolist(), b[agree].tolist(), strict=True)
    return found
