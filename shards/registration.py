"""Whether one picture is another under a small similarity: laid over it by least squares, then correlated.

Angle, scale and shift are improved by Gauss-Newton steps on the detail of both pictures (Lucas & Kanade 1981,
"An iterative image registration technique"), many pairs at a time. The score is the median correlation of
the parts of the picture, so that what is pasted over one of them does not count.
"""

import math

import numpy as np

SIDE = 64
STAGES = ((32, (1.5, 4.0), 4, 0.7), (32, (0.9, 2.5), 3, 0.75), (64, (1.0, 3.0), 2, 0.0))
"""Side in pixels, the two blurs of the detail, steps, and the least score that the next stage takes."""
MARGIN = 3 / 64  # of the side: what counts nowhere, as resampling mixes it with what is around
PARTS = 4
LEAST = 0.5  # share of a part that both pictures must cover
FARTHEST_TURN, FARTHEST_SCALE, FARTHEST_SHIFT = 0.14, 0.2, 0.25


def blur_matrix(side: int, sigma: float) -> np.ndarray:
    """A Gaussian blur along one axis, float32 [side, side], rows of sum 1."""
    offsets = np.arange(side)[:, None] - np.arange(side)[None]
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def detail(pictures: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Pictures [n, side, side] blurred a little less the same blurred more, float32."""
    narrow, wide = (blur_matrix(pictures.shape[-1], sigma) for sigma in band)
    values = pictures.astype(np.float32)
    return narrow @ values @ narrow.T - wide @ values @ wide.T


def scores(moving: np.ndarray, still: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """How well pairs of pictures [n, SIDE, SIDE] agree, -1 to 1, once `moving` is laid over `still`.

    `scale` [n]: a first guess of how many of the pixels of `moving` one of `still` is wide. Inverted copies
    agree too: the sign of the whole correlation does not count.
    """
    warp = np.zeros((len(moving), 4), np.float32)
    warp[:, 0] = scale
    found, left = np.zeros(len(moving)), np.arange(len(moving))
    for side, band, steps, least in STAGES:
        if not len(left):
            break
        a, b = _halved(moving[left], side), _halved(still[left], side)
        warp[left], score = _laid(a, b, warp[left], band, steps)
        found[left] = score
        left = left[score >= least]
    turn, size = np.arctan2(warp[:, 1], warp[:, 0]), np.hypot(warp[:, 0], warp[:, 1])
    far = (np.abs(turn) > FARTHEST_TURN) | (np.abs(size - 1) > FARTHEST_SCALE)
    far |= np.abs(warp[:, 2:]).max(axis=1) > FARTHEST_SHIFT
    return np.where(far, 0.0, found)


def _halved(pictures: np.ndarray, side: int) -> np.ndarray:
    """At `side`, a half, quarter, ... of theirs, or as they are."""
    step = pictures.shape[-1] // side
    return pictures.reshape(len(pictures), side, step, side, step).mean(axis=(2, 4), dtype=np.float32)


def _laid(
    moving: np.ndarray, still: np.ndarray, warp: np.ndarray, band: tuple[float, float], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The similarities [n, 4] after so many steps, and the scores there."""
    n, side = len(moving), moving.shape[-1]
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.broadcast_to(axis, (side, side)).ravel(), np.repeat(axis, side)
    a, b = detail(moving, band), detail(still, band).reshape(n, -1)
    down_slope, right_slope = np.gradient(a, axis=(1, 2))
    layers = np.stack([a, right_slope * (side / 2), down_slope * (side / 2)], axis=-1).reshape(n, -1, 3)
    terms = np.empty((n, 6, side * side), np.float32)
    for _ in range(steps):
        sampled, inside = _sampled(layers, side, warp, x, y)
        value, right, down = sampled.transpose(2, 0, 1)
        terms[:, 0], terms[:, 1] = right * x + down * y, down * x - right * y
        terms[:, 2], terms[:, 3], terms[:, 4], terms[:, 5] = right, down, value, 1.0
        terms *= inside[:, None]
        normal = terms @ terms.transpose(0, 2, 1)
        damping = np.einsum("nii->ni", normal) * 1e-3 + 1e-6
        normal += damping[:, :, None] * np.eye(6, dtype=np.float32)
        solved = np.linalg.solve(normal, terms @ b[..., None])[..., 0]
        gain = solved[:, 4:5]
        gain = np.where(np.abs(gain) < 0.2, np.where(gain < 0, -0.2, 0.2), gain)
        warp = warp + np.clip(solved[:, :4] / gain, -0.05, 0.05)
    sampled, inside = _sampled(layers[..., :1], side, warp, x, y)
    return warp, _agreement(sampled[..., 0], b, inside)


def _sampled(
    layers: np.ndarray, side: int, warp: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Layers [n, side**2, k] of pictures where similarities [n, 4] lead each point; 1 where it may count."""
    a, b, right, down = (part[:, None] for part in warp.T)
    half = np.float32((side - 1) / 2)
    columns, rows = ((a * x - b * y + right) + 1) * half, ((b * x + a * y + down) + 1) * half
    margin = MARGIN * side
    own = (np.maximum(np.abs(x), np.abs(y)) * half <= half - margin)[None]
    inside = own & (np.maximum(np.abs(columns - half), np.abs(rows - half)) <= half - margin)
    columns, rows = np.clip(columns, 0, side - 1.001), np.clip(rows, 0, side - 1.001)
    left, top = columns.astype(np.int32), rows.astype(np.int32)
    across, along = (columns - left)[..., None], (rows - top)[..., None]
    corner = top * side + left + (np.arange(len(warp)) * side * side)[:, None]
    flat = layers.reshape(-1, layers.shape[-1])
    upper = flat[corner] * (1 - across) + flat[corner + 1] * across
    lower = flat[corner + side] * (1 - across) + flat[corner + side + 1] * across
    return upper * (1 - along) + lower * along, inside.astype(np.float32)


def _agreement(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The median, over PARTS x PARTS parts that both pictures cover, of their correlation; [n]."""
    n, step = len(first), math.isqrt(first.shape[1]) // PARTS

    def parts(values: np.ndarray) -> np.ndarray:
        split = values.reshape(n, PARTS, step, PARTS, step).transpose(0, 1, 3, 2, 4)
        return split.reshape(n, PARTS**2, step * step)

    a, b, weight = parts(first), parts(second), parts(inside)
    count = weight.sum(axis=2)
    total = np.maximum(count, 1)
    a = (a - ((a * weight).sum(2) / total)[..., None]) * weight
    b = (b - ((b * weight).sum(2) / total)[..., None]) * weight
    both = (a * b).sum(2) / np.maximum(np.sqrt((a * a).sum(2) * (b * b).sum(2)), 1e-6)
    sign = np.sign((first * second * inside).sum(axis=1))[:, None]
    both = np.where(count >= LEAST * step * step, both * sign, np.nan)
    enough = np.isfinite(both).sum(axis=1) >= PARTS**2 // 2
    both[~enough] = 0.0
    return np.nanmedian(both, axis=1)
