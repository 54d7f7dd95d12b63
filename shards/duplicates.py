"""Which images are near-duplicates: thumbnails compared by the correlation of their high-passed ranks.

The ranks of the 32 x 32 thumbnail don't change under another window, gamma or bit depth; subtracting a
Gaussian blur of them takes away what all chest X-rays share. Measured on 799 frontal X-rays of the NIH set:
of 318,000 pairs of different patients the most similar reach 0.80 (99.9 % stay below 0.67), and the tail puts
the most similar of 10^8 pairs, those of 15,000 images, near 0.87. Of 200 copies each that went through
another window, gamma, equalisation, 16 gray levels, JPEG at quality 30, 64 pixels or noise (8 of 255), 99.5 %
and more reach 0.9. Copies that were padded, turned or cropped by several per cent are not found. A false
match only keeps two patients in one split.
"""

import numpy as np

from shards.pixels.fit import Field, resize

SIDE = 32
BLUR = 2.0  # standard deviation in thumbnail pixels
THRESHOLD = 0.9
METHOD = f"correlation of high-passed ranks of {SIDE} x {SIDE} thumbnails"
CHUNK = 2048  # rows compared at a time: 16 MB of correlations for each 2048 images


def fingerprint(field: Field) -> np.ndarray:
    """A field [height, width] in [0, 1] -> float32 [1024] of norm 1 (all zero for a constant field)."""
    thumbnail = resize(field, SIDE, SIDE)
    _, position, count = np.unique(thumbnail, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[position].reshape(SIDE, SIDE)
    blur = _blur_matrix()
    detail = ranks - blur @ ranks @ blur.T
    detail -= detail.mean()
    norm = np.linalg.norm(detail)
    return (detail / norm if norm > 0 else detail).ravel().astype(np.float32)


def _blur_matrix() -> np.ndarray:
    offsets = np.arange(SIDE)[:, None] - np.arange(SIDE)[None]
    weights = np.exp(-0.5 * (offsets / BLUR) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def cluster(fingerprints: np.ndarray, threshold: float = THRESHOLD) -> list[int]:
    """For each of the float32 [n, 1024] fingerprints, the first index of its cluster.

    Clusters are the connected components of "correlates by `threshold` or more".
    """
    label = np.arange(len(fingerprints))
    for top in range(0, len(fingerprints), CHUNK):
        for left in range(top, len(fingerprints), CHUNK):
            close = fingerprints[top : top + CHUNK] @ fingerprints[left : left + CHUNK].T >= threshold
            for row in np.flatnonzero(close.any(axis=1)).tolist():
                touched = np.union1d(label[left + np.flatnonzero(close[row])], label[top + row])
                if len(touched) > 1:
                    label[np.isin(label, touched)] = touched[0]
    return label.tolist()
