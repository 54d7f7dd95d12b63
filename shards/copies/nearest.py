"""Which pictures look like which, before any of them is compared in detail: an index of short descriptors.

Descriptors are put into about sqrt(n) cells around centres (k-means), and each picture looks into the few
cells nearest to it alone, so the time grows as n sqrt(n). Sets of up to EXACT pictures are compared whole.
"""

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from shards.copies.registration import SIDE, blur_matrix

SMALL = 16
BAND = (3.0, 8.0)
CLIPPED = 2.0  # mean values
DIMENSIONS = 64
EXACT = 4096
PROBES = 8
SAMPLE = 20_000
ROUNDS = 6
ARRAYS = ("basis", "gallery", "centres", "cell")
AT_ONCE = 1024  # pictures made descriptors of
ZOOM = 0.91  # of the middle that is looked for as well: what a copy cropped by 5 % on each side shows
VIEWS = ((False, 1.0, 4), (True, 1.0, 3), (False, ZOOM, 2), (True, ZOOM, 2))
"""How a picture is looked for: whether mirrored, how much of its middle, and how many that look like it."""


def descriptors(pictures: np.ndarray, mirrored: bool = False, zoom: float = 1.0) -> np.ndarray:
    """Pictures [n, SIDE, SIDE] -> float32 [n, SMALL**2] of norm 1 (0 where there is no detail).

    Of the middle `zoom`, at full size, and `mirrored`. The greatest values are clipped: a marker would
    decide otherwise.
    """
    small = pictures.reshape(-1, SIDE**2).astype(np.float32) @ _reduced_detail(zoom)
    if mirrored:
        small = small.reshape(-1, SMALL, SMALL)[:, :, ::-1].reshape(-1, SMALL**2)
    small = small - small.mean(axis=1, keepdims=True)
    most = CLIPPED * np.abs(small).mean(axis=1, keepdims=True)
    small = np.clip(small, -most, most)
    return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-3)


@cache
def _reduced_detail(zoom: float) -> np.ndarray:
    """float32 [SIDE**2, SMALL**2]: zooming in, both blurs, their difference and means of squares, in one."""
    means = np.kron(np.eye(SMALL), np.full(SIDE // SMALL, SMALL / SIDE))
    narrow, wide = (means @ blur_matrix(SIDE, sigma) @ _middle(zoom) for sigma in BAND)
    return np.ascontiguousarray((np.kron(narrow, narrow) - np.kron(wide, wide)).T, np.float32)


def _middle(zoom: float) -> np.ndarray:
    """The matrix that takes the middle `zoom` of SIDE values to SIDE values, in between by straight lines."""
    at = np.clip((np.arange(SIDE) + 0.5 - SIDE / 2) * zoom + SIDE / 2 - 0.5, 0, SIDE - 1)
    low = np.minimum(at.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE))
    matrix[np.arange(SIDE), low], matrix[np.arange(SIDE), low + 1] = 1 - (at - low), at - low
    return matrix


class Index:
    """Descriptors of n pictures, to look in: in the DIMENSIONS in which they differ most, by cells.

    `basis` [SMALL**2, DIMENSIONS], `gallery` [n, DIMENSIONS], `centres` [cells, DIMENSIONS], all float32, and
    `cell` [n], where each picture is.
    """

    def __init__(self, basis: np.ndarray, gallery: np.ndarray, centres: np.ndarray, cell: np.ndarray) -> None:
        self._basis, self._gallery, self._centres, self._cell = basis, gallery, centres, cell
        order = np.argsort(cell, kind="stable")
        edges = np.searchsorted(cell[order], np.arange(len(centres) + 1))
        self._members = [order[start:end] for start, end in pairwise(edges)]

    @classmethod
    def of(cls, pictures: np.ndarray, zoom: float = 1.0) -> Self:
        """Of the middles of pictures [n, SIDE, SIDE], in memory or on disk; 0.3 kB of memory for each."""
        n = len(pictures)
        some = np.arange(0, n, max(1, n // SAMPLE))
        sample = [
            descriptors(pictures[some[at : at + AT_ONCE]], zoom=zoom) for at in range(0, len(some), AT_ONCE)
        ]
        parts = (descriptors(pictures[at : at + AT_ONCE], zoom=zoom) for at in range(0, n, AT_ONCE))
        return cls.of_descriptors(np.concatenate(sample), parts)

    @classmethod
    def of_descriptors(cls, sample: np.ndarray, parts: Iterable[np.ndarray]) -> Self:
        """Of descriptors [n, d] in parts, with axes and cells from some of them, `sample` [m, d]."""
        basis = np.linalg.eigh(sample.T @ sample)[1][:, -DIMENSIONS:].astype(np.float32)
        gallery = np.concatenate([part @ basis for part in parts])
        cells = 1 if len(gallery) <= EXACT else int(len(gallery) ** 0.5)
        centres = _centres(sample @ basis, cells)
        split = np.array_split(gallery, len(gallery) // AT_ONCE + 1)
        cell = np.concatenate([(part @ centres.T).argmax(axis=1) for part in split])
        return cls(basis, gallery, centres, cell)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote; the greatest part stays on disk."""
        basis, gallery, centres, cell = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
        return cls(basis, gallery, centres, cell)

    def save(self, folder: Path) -> None:
        """Write the arrays into an empty folder."""
        for name, array in zip(ARRAYS, (self._basis, self._gallery, self._centres, self._cell), strict=True):
            np.save(folder / f"{name}.npy", array)

    def nearest(self, looked_for: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most correlated with each descriptor [m, d], of either sign: index, correlation [m, k].

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
        index[index == own[:, None]] = -1
        return index, np.einsum("md,mkd->mk", queries, self._gallery[index])


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
