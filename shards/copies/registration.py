"""Whether one picture is another under a small affine map: laid over it by least squares, then correlated.

Scales, angle and shift are improved by Gauss-Newton steps on the detail of both pictures (Lucas & Kanade
1981, "An iterative image registration technique"), many pairs at a time. What is pasted over a part of one of
them does not decide: where the two differ most counts least (the weights of Cauchy's M-estimator), and the
score is the median correlation of the parts of the picture. Where one was made so bright that it is clipped,
the other is clipped at the same ranks.
"""

import math

import numpy as np

SIDE = 64
STAGES = ((32, (1.5, 4.0), 4, 0.7), (32, (0.9, 2.5), 3, 0.75), (64, (1.0, 3.0), 2, 0.0))
"""Side in pixels, the two blurs of the detail, steps, and the least score that the next stage takes."""
MARGIN = 3 / 64  # of the side: what counts nowhere, as resampling mixes it with what is around
PARTS = 4
LEAST = 0.5  # share of a part that both pictures must cover
DOUBTED = 2.0  # mean differences: a pixel that differs by so much counts half
MOST_CLIPPED = 0.6  # share of a picture
# Scales differ by axis, and much, where what is pasted around one of them was cut off of the other.
FARTHEST_TURN, FARTHEST_SKEW, FARTHEST_SCALE, FARTHEST_SHIFT = 0.14, 0.05, 0.45, 0.45


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
    """How well pairs of pictures uint8 [n, SIDE, SIDE] agree, -1 to 1, once `moving` is laid over `still`.

    `scale` [n]: a first guess of how many of the pixels of `moving` one of `still` is wide.
    """
    moving, still = clipped_alike(moving, still)
    warp = np.zeros((len(moving), 6), np.float32)
    warp[:, 0] = warp[:, 3] = scale
    found, left = np.zeros(len(moving)), np.arange(len(moving))
    for side, band, steps, least in STAGES:
        if not len(left):
            break
        a, b = _halved(moving[left], side), _halved(still[left], side)
        warp[left], score = _laid(a, b, warp[left], band, steps)
        found[left] = score
        left = left[score >= least]
    a, b, c, d = warp[:, :4].T
    turn, skew = np.arctan2(c - b, a + d), np.abs(b + c) / 2
    far = (np.abs(turn) > FARTHEST_TURN) | (skew > FARTHEST_SKEW)
    far |= np.maximum(np.abs(a - 1), np.abs(d - 1)) > FARTHEST_SCALE
    far |= np.abs(warp[:, 4:]).max(axis=1) > FARTHEST_SHIFT
    return np.where(far, 0.0, found)


def clipped_alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of ranks [n, SIDE, SIDE] in which as many pixels tie at either end, the more of each two."""
    pictures = [picture.reshape(len(picture), -1).astype(np.float32) for picture in (first, second)]
    low, high = (
        np.maximum(*[(picture == end(picture, axis=1, keepdims=True)).mean(1) for picture in pictures])
        for end in (np.min, np.max)
    )
    low, high = (
        np.where(share > MOST_CLIPPED, 0, share)[:, None].astype(np.float32) for share in (low, high)
    )
    clipped = []
    for picture in pictures:
        dark = np.where(picture < 255 * low, 255 * low / 2, picture)
        clipped.append(np.where(dark > 255 * (1 - high), 255 * (1 - high / 2), dark).reshape(first.shape))
    return clipped[0], clipped[1]


def _halved(pictures: np.ndarray, side: int) -> np.ndarray:
    """At `side`, a half, quarter, ... of theirs, or as they are."""
    step = pictures.shape[-1] // side
    return pictures.reshape(len(pictures), side, step, side, step).mean(axis=(2, 4), dtype=np.float32)


def _laid(
    moving: np.ndarray, still: np.ndarray, warp: np.ndarray, band: tuple[float, float], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The affine maps [n, 6] after so many steps, and the scores there."""
    n, side = len(moving), moving.shape[-1]
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.broadcast_to(axis, (side, side)).ravel(), np.repeat(axis, side)
    a, b = detail(moving, band), detail(still, band).reshape(n, -1)
    down_slope, right_slope = np.gradient(a, axis=(1, 2))
    layers = np.stack([a, right_slope * (side / 2), down_slope * (side / 2)], axis=-1).reshape(n, -1, 3)
    terms = np.empty((n, 8, side * side), np.float32)
    trust = np.ones_like(b)
    for _ in range(steps):
        sampled, inside = _sampled(layers, side, warp, x, y)
        value, right, down = sampled.transpose(2, 0, 1)
        terms[:, 0], terms[:, 1], terms[:, 2], terms[:, 3] = right * x, right * y, down * x, down * y
        terms[:, 4], terms[:, 5], terms[:, 6], terms[:, 7] = right, down, value, 1.0
        weight = inside * trust
        weighted = terms * weight[:, None]
        normal = weighted @ terms.transpose(0, 2, 1)
        damping = np.einsum("nii->ni", normal) * 1e-3 + 1e-6
        normal += damping[:, :, None] * np.eye(8, dtype=np.float32)
        solved = np.linalg.solve(normal, weighted @ b[..., None])[..., 0]
        differs = np.abs(b - (solved[:, None] @ terms)[:, 0])
        mean = (differs * weight).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1.0)
        trust = 1 / (1 + np.square(differs / (DOUBTED * mean + 1e-6)))
        gain = solved[:, 6:7]
        warp = warp + np.clip(solved[:, :6] / np.maximum(gain, 0.2), -0.05, 0.05)
    sampled, inside = _sampled(layers[..., :1], side, warp, x, y)
    return warp, _agreement(sampled[..., 0], b, inside)


def _sampled(
    layers: np.ndarray, side: int, warp: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Layers [n, side**2, k] of pictures where affine maps [n, 6] lead each point; 1 where it may count."""
    a, b, c, d, right, down = (part[:, None] for part in warp.T)
    half = np.float32((side - 1) / 2)
    columns, rows = ((a * x + b * y + right) + 1) * half, ((c * x + d * y + down) + 1) * half
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
    both = np.where(count >= LEAST * step * step, both, np.nan)
    enough = np.isfinite(both).sum(axis=1) >= PARTS**2 // 2
    both[~enough] = 0.0
    return np.nanmedian(both, axis=1)
