"""What a split holds besides names: the digest that builds from the same sources under two keys share.

The manifest holds it for each split as `content_sha256`, so that two laboratories can tell that they measure
against the same images. It says nothing that the pictures, classes and groups in the shards don't say.
"""

import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shards.manifest import Shard


def pixel_digest(levels: np.ndarray) -> str:
    """SHA-256 of the gray levels [height, width], uint8 or uint16, row by row, 16 bits little-endian.

    Not of the PNG: its bytes depend on the release of the compression library.
    """
    return hashlib.sha256(levels.astype(levels.dtype.newbyteorder("<"), copy=False).tobytes()).hexdigest()


def split_digest(
    classes: Sequence[str],
    size: int,
    bits: int,
    pixels: Sequence[str],
    labels: Sequence[int],
    patients: Sequence[str],
    clusters: Sequence[str],
) -> str:
    """SHA-256 of the samples of a split, in order: `pixels` are their pixel digests.

    Hashed is UTF-8 text: a line of JSON with bits, classes and size, then a line for each sample with pixel
    digest, label, number of the patient and number of the near-duplicate cluster, both by first appearance.
    """
    head = json.dumps({"bits": bits, "classes": list(classes), "size": size}, separators=(",", ":"))
    columns = (pixels, labels, _numbered(patients), _numbered(clusters))
    digest = hashlib.sha256(f"{head}\n".encode())
    for sample in zip(*columns, strict=True):
        digest.update(f"{' '.join(map(str, sample))}\n".encode())
    return digest.hexdigest()


def shards_digest(
    classes: Sequence[str], size: int, bits: int, pixels: Sequence[str], shards: Sequence["Shard"]
) -> str:
    """`split_digest` of the samples in the index of these shards."""
    indexes = [shard.index for shard in shards]
    return split_digest(
        classes,
        size,
        bits,
        pixels,
        labels=[label for index in indexes for label in index.label],
        patients=[patient for index in indexes for patient in index.patient],
        clusters=[cluster for index in indexes for cluster in index.cluster],
    )


def _numbered(names: Iterable[Hashable]) -> list[int]:
    """For each name the number, from 0, that it got where it first appeared."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
