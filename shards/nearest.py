"""Which pictures look like which, before any of them is compared in detail: an index of short descriptors.

Descriptors are put into about sqrt(n) cells around centres (k-means), and each picture looks into the few
cells nearest to it alone, so the time grows as n sqrt(n). Sets of up to EXACT pictures are compared whole.
"""

from itertools import pairwise

import numpy as np

from shards.registration import SIDE, blur_matrix

SMALL = 16
BAND = (3.0, 8.0)
DIMENSIONS = 64
EXACT = 4096
PROBES = 8
SAMPLE = 20_000
ROUNDS = 6
ZOOM = 0.91  # of the middle that is looked for as well: what a copy cropped by 5 % on each side shows
VIEWS = ((False, 1.0, 4), (True, 1.0, 3), (False, ZOOM, 2), (True, ZOOM, 2))
"""How a picture is looked for: whether mirrored, how much of its middle, and how many that look like it."""


def descriptors(pictures: np.ndarray) -> np.ndarray:
    """Pictures [n, SIDE, SIDE] -> float32 [n, SMALL**2] of mean 0 and norm 1 (0 where there is no detail)."""
    narrow, wide = (blur_matrix(SIDE, sigma) for sigma in BAND)
    values = pictures.astype(np.float32)
    detail = narrow @ values @ narrow.T - wide @ values @ wide.T
    step = SIDE // SMALL
    small = detail.reshape(-1, SMALL, step, SMALL, step).mean(axis=(2, 4)).reshape(-1, SMALL**2)
    small -= small.mean(axis=1, keepdims=True)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-3)


def viewed(pictures: np.ndarray, mirrored: bool, zoom: float) -> np.ndarray:
    """Pictures as they are looked for: mirrored, and the middle at full size."""
    seen = pictures[:, :, ::-1] if mirrored else pictures
    if zoom == 1.0:
        return seen
    at = np.clip(((np.arange(SIDE) + 0.5) - SIDE / 2) * zoom + SIDE / 2 - 0.5, 0, SIDE - 1.001)
    low = at.astype(int)
    share = (at - low).astype(np.float32)
    values = seen.astype(np.float32)
    values = values[:, low] * (1 - share)[:, None] + values[:, low + 1] * share[:, None]
    return values[:, :, low] * (1 - share) + values[:, :, low + 1] * share


class Index:
    """Descriptors [n, d], of norm 1, to look in."""

    def __init__(self, gallery: np.ndarray) -> None:
        n = len(gallery)
        sample = gallery[:: max(1, n // SAMPLE)]
        # the directions in which they differ most: fewer multiplications
        self._basis = np.linalg.eigh(sample.T @ sample)[1][:, -DIMENSIONS:].astype(np.float32)
        self._gallery = gallery @ self._basis
        cells = 1 if n <= EXACT else int(n**0.5)
        self._centres = _centres(self._gallery[:: max(1, n // SAMPLE)], cells)
        cell = np.concatenate(
            [(part @ self._centres.T).argmax(axis=1) for part in np.array_split(self._gallery, n // 4096 + 1)]
        )
        order = np.argsort(cell, kind="stable")
        edges = np.searchsorted(cell[order], np.arange(cells + 1))
        self._members = [order[start:end] for start, end in pairwise(edges)]

    def nearest(self, looked_for: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most correlated with each of the descriptors [m, d], of either sign: index and size [m, k].

        `own` [m]: the index of each in the gallery, which does not count. Index -1: there are fewer.
        """
        queries = looked_for @ self._basis
        index = np.full((len(queries), k), -1)
        size = np.zeros((len(queries), k), np.float32)
        for sign in (1, -1) if len(self._centres) > 1 else (1,):
            near = (sign * queries) @ self._centres.T
            probes = min(PROBES, near.shape[1])
            visited = np.argpartition(-near, probes - 1, axis=1)[:, :probes]
            for cell in np.unique(visited):
                rows = np.flatnonzero((visited == cell).any(axis=1))
                members = self._members[cell]
                if not len(members):
                    continue
                likeness = np.abs(queries[rows] @ self._gallery[members].T)
                likeness[members[None] == own[rows, None]] = 0
                _merge(index, size, rows, members, likeness, k)
        return index, size


def _centres(sample: np.ndarray, cells: int) -> np.ndarray:
    """K-means on the sphere, from evenly spaced members of the sample."""
    centres = sample[np.linspace(0, len(sample) - 1, cells).astype(int)]
    for _ in range(ROUNDS if cells > 1 else 0):
        cell = (sample @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        norm = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norm > 1e-6, sums / np.maximum(norm, 1e-6), centres)
    return centres


def _merge(
    index: np.ndarray, size: np.ndarray, rows: np.ndarray, members: np.ndarray, likeness: np.ndarray, k: int
) -> None:
    """Keep the k best of what the rows have and what a cell has for them."""
    few = min(k, likeness.shape[1])
    best = np.argpartition(-likeness, few - 1, axis=1)[:, :few]
    all_sizes = np.concatenate([size[rows], np.take_along_axis(likeness, best, 1)], axis=1)
    all_index = np.concatenate([index[rows], members[best]], axis=1)
    # the same member, met by both signs, counts once
    order = np.lexsort((-all_sizes, all_index))
    sorted_index = np.take_along_axis(all_index, order, 1)
    again = np.zeros_like(sorted_index, bool)
    again[:, 1:] = sorted_index[:, 1:] == sorted_index[:, :-1]
    sorted_sizes = np.where(again, 0, np.take_along_axis(all_sizes, order, 1))
    sorted_index = np.where(again, -1, sorted_index)
    top = np.argsort(-sorted_sizes, axis=1, kind="stable")[:, :k]
    index[rows] = np.take_along_axis(sorted_index, top, 1)
    size[rows] = np.take_along_axis(sorted_sizes, top, 1)
