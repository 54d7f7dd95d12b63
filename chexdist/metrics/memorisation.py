"""Which images are near-copies of training images: the rule of the audit before generated images leave.

Each training image is laid over the image as well as can be: mirrored or not, turned by up to 10 degrees,
scaled by up to 15 %, shifted by up to an eighth of the side, and a little beyond (`alignment`). How similar
the two then are is the correlation of what lies between two blurs, where both pictures are, without its sign:
an inverted copy is a copy. All chests share what the wider blur takes away; the narrower one takes fine
noise. The noise that the image has more of than the training image is then reckoned out of its variance, as
Spearman's correction for attenuation does (1904, "The proof and measurement of association between two
things"): a noisy copy differs from its original by noise alone, another patient's X-ray by more.

A near-copy is an image that is more like some training image than real X-rays of other patients are, under
the same search, but for a stated share of them. What is found of which copies is in docs/privacy.md.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from chexdist.metrics.alignment import FLAT, SIDE, Gallery, aligned, detail, overlap, small, warped

LOW, HIGH = 1.3, 3.0  # standard deviations of the blurs, in pixels of SIDE
CANDIDATES = 6  # training images that are laid over an image at SIDE / 2, the best of which is at SIDE
COARSE_STEPS, FINE_STEPS = 4, 5
SEEN, GROWTH = 0.5, 1.35  # the least share of a picture in both, and the most that it may be scaled by
NOISE_FILTER = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
RATE = 0.005
METHOD = (
    f"largest correlation at {SIDE} px between Gaussian blurs of {LOW:g} and {HIGH:g} px, corrected for "
    "noise, over mirroring, turns by 10 degrees, scaling by 15 %, shifts by an eighth, and inversion"
)


@dataclass(frozen=True)
class Likeness:
    """How similar N images are to the nearest training image: float32 [N] in [0, 1]; its index, int64 [N]."""

    value: Tensor
    index: Tensor


@dataclass(frozen=True)
class Threshold:
    """An image is a near-copy when it is more similar to a training image than `value`.

    It was chosen so that of real X-rays a share `rate` is flagged at most, from `images` of them.
    """

    value: float
    rate: float
    images: int


def likeness(images: Tensor, gallery: Gallery, excluded: Tensor | None = None) -> Likeness:
    """Of images [N, 1, S, S] in [-1, 1] to the pictures of a gallery; pairs `excluded` [N, M] never count.

    Raises ValueError as `levels` does.
    """
    pictures = small(images)
    nearest = gallery.nearest(pictures, CANDIDATES, excluded)
    n, k = nearest.index.shape
    mirrored = nearest.mirrored.flatten()[:, None, None, None]
    repeated = pictures.repeat_interleave(k, dim=0)
    repeated = torch.where(mirrored, repeated.flip(3), repeated)
    known = gallery.pictures[nearest.index.flatten()].float()
    halves = functional.avg_pool2d(repeated, 2), functional.avg_pool2d(known, 2)
    band = LOW, HIGH * 2.5 / 3
    similarity = aligned(*halves, nearest.similarity.flatten(0, 1), *band, COARSE_STEPS)
    coarse = _Agreement.of(*halves, similarity, *band).correlation.view(n, k)
    if excluded is not None:  # fewer pictures than candidates may be left
        coarse = coarse.masked_fill(excluded.gather(1, nearest.index), -1.0)
    best = coarse.argmax(dim=1)
    chosen = best + torch.arange(n) * k
    repeated, known = repeated[chosen], known[chosen]
    similarity = aligned(repeated, known, similarity[chosen], LOW, HIGH, FINE_STEPS)
    value = _corrected(repeated, known, similarity)
    index = nearest.index.gather(1, best[:, None])[:, 0]
    if excluded is not None:
        value = torch.where(excluded.gather(1, index[:, None])[:, 0], 0.0, value)
    return Likeness(value, index)


def threshold(real: Tensor, rate: float = RATE) -> Threshold:
    """The threshold that a share `rate` of fresh real images exceeds at most, by the likeness [M] of others.

    It is one of the values, chosen as split conformal prediction does (Papadopoulos 2002): of M + 1
    exchangeable values, the last exceeds the k-th smallest of the others with a probability of at most 1 - k
    / (M + 1). With few values that is more than `rate`, and the result says so.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    if not len(real) or not bool(real.isfinite().all()):
        raise ValueError("no likeness of real images to take a threshold from, or one that is not finite")
    k = min(len(real), math.ceil((len(real) + 1) * (1 - rate)))
    return Threshold(float(real.sort().values[k - 1]), 1 - k / (len(real) + 1), len(real))


@dataclass(frozen=True)
class _Agreement:
    """Of details where both pictures are: correlation without sign, variances, gain; each [B]."""

    correlation: Tensor
    variance: Tensor
    gain: Tensor

    @classmethod
    def of(
        cls, images: Tensor, pictures: Tensor, similarity: Tensor, low: float, high: float
    ) -> "_Agreement":
        """For pairs of [B, 1, S, S]; the correlation is 0 where too little of a picture is in both."""
        side = images.shape[-1]
        mask = overlap(similarity, side)
        count = mask.sum((1, 2, 3)).clamp_min(1)
        moved, known = (
            detail(each, mask, low, high) for each in (warped(images, similarity, "bicubic"), pictures)
        )
        moved, known = (
            (each - each.sum((1, 2, 3), keepdim=True) / count[:, None, None, None]) * mask
            for each in (moved, known)
        )
        both, ours, theirs = (
            (a * b).sum((1, 2, 3)) / count for a, b in ((moved, known), (moved, moved), (known, known))
        )
        least = (FLAT / side) ** 2
        correlation = both.abs() / (ours.clamp_min(least) * theirs.clamp_min(least)).sqrt()
        scale = (similarity[:, 0] ** 2 + similarity[:, 1] ** 2).sqrt()
        whole = overlap(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), side).sum()
        valid = (count >= SEEN * whole) & (scale < GROWTH) & (scale > 1 / GROWTH)
        return cls(torch.where(valid, correlation, 0.0), ours, both / theirs.clamp_min(least))


def _corrected(images: Tensor, pictures: Tensor, similarity: Tensor) -> Tensor:
    """The likeness of pairs of [B, 1, SIDE, SIDE]: their correlation, corrected for the images' noise."""
    found = _Agreement.of(images, pictures, similarity, LOW, HIGH)
    more = (_noise(images) - found.gain**2 * _noise(pictures)).clamp_min(0)
    area = (similarity[:, 0] ** 2 + similarity[:, 1] ** 2).clamp_min(0.25)
    left = more * _noise_passed() / area
    reliable = (1 - left / found.variance.clamp_min(1e-6)).clamp_min(0.05)
    return (found.correlation / reliable.sqrt()).clamp_max(1)


def _noise(images: Tensor) -> Tensor:
    """The variance [B] of white noise in images (Immerkaer 1996, "Fast noise variance estimation").

    By the median of his filter's responses, so that a border's edges don't count.
    """
    responses = functional.conv2d(images, torch.tensor(NOISE_FILTER)[None, None]).flatten(1)
    return (responses.abs().median(dim=1).values / (6 * 0.6745)) ** 2


def _noise_passed() -> float:
    """The share of white noise's variance that is left between the two blurs, far from any border."""
    narrow, wide = LOW**2, HIGH**2
    return (1 / narrow + 1 / wide - 4 / (narrow + wide)) / (4 * math.pi)
