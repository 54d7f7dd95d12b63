"""What a split holds besides names: the digest that builds from the same sources under two keys share.

The manifest holds it for each split as `content_sha256`, so that two laboratories can tell that they measure
against the same images. It says nothing that the pictures, classes and groups in the shards don't say.
"""

import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence

import numpy as np


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
    lines = [head, *(" ".join(map(str, sample)) for sample in zip(*columns, strict=True))]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _numbered(names: Iterable[Hashable]) -> list[int]:
    """For each name the number, from 0, that it got where it first appeared."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
