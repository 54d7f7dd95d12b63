"""Decides how pairs of images are measured: their preparation, the mean with its interval, the protocol.

PSNR, MSE and SSIM between random pairs are what the notebooks report that compare X-ray GANs. Two images of
different patients show different things, so such a number says nothing of how real an image looks, and more
is not better: on X-rays, their mean image beats other X-rays in all three, and so does a blurred one. The
yardstick is the same number between real images of different patients; all that can be asked of a generator
is to come near it. MS-SSIM between pairs of generated images says how similar they are, and has the same
yardstick.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chexdist.metrics import computed_from
from chexdist.metrics.estimate import Estimate, Refusal, TooFewImages
from chexdist.metrics.full_float32 import full_float32
from chexdist.metrics.intervals import clustered_mean, clustered_mean_draws, numbered
from chexdist.metrics.preprocess import RESIZE, levels, resize
from chexdist.metrics.protocol import Hashed
from chexdist.metrics.psnr import METHOD as PSNR_METHOD
from chexdist.metrics.ssim import METHOD as SSIM_METHOD

SIZE = 256
MIN_PATIENTS = 16  # simulated clusters: the interval covers the truth in 94 to 95 % of the cases from here on


@dataclass(frozen=True)
class PairProtocol(Hashed):
    """How a mean over `n` pairs was measured.

    reference: digest of the real images; pairing: what a pair has in common. `psnr` and `ssim` are in the
    hash of every number of pairs; a later metric's method is in its name, not here.
    """

    pairing: str
    image_size: int
    reference: str
    reference_split: str
    n: int
    size: int = SIZE
    value_range: str = "[0, 1] in 256 levels"
    resize: str = RESIZE
    psnr: str = PSNR_METHOD
    ssim: str = SSIM_METHOD
    version: int = 1  # raise it when a change of code moves a value and no other field shows it


def pair_scores(images: Tensor, others: Tensor) -> dict[str, Tensor]:
    """Every pair metric of images[i] with others[i], each float32 [N], by metric name.

    Both are gray [N, 1, S, S] in [-1, 1], on one device. Rounded to 256 levels, resized to SIZE, scaled to
    [0, 1]. Raises ValueError as `levels` does.
    """
    a, b = _prepared(images), _prepared(others)
    with full_float32(a.device):
        return {name: spec.formula.score(a, b) for name, spec in computed_from("pairs").items()}


def own_pair_scores(images: Tensor) -> dict[str, Tensor]:
    """Every metric of own pairs of images[2 i] with images[2 i + 1], each float32 [N // 2], by metric name.

    The images [N, 1, S, S] are prepared as by `pair_scores`, and of an odd number the last is left out.
    """
    prepared = _prepared(images[: len(images) // 2 * 2])
    with full_float32(prepared.device):
        return {
            name: spec.formula.score(prepared[::2], prepared[1::2])
            for name, spec in computed_from("own pairs").items()
        }


def _prepared(images: Tensor) -> Tensor:
    return resize(levels(images), SIZE) / 255


def mean_over_pairs(scores: Tensor, patients: Sequence[Hashable]) -> Estimate:
    """The mean of scores [N] with its 95 % interval, where pair i holds a held-out image of patients[i].

    For pairs whose other image occurs once, and is of a patient that occurs once: then two pairs depend on
    each other only when they share the held-out patient, whose pairs are a cluster
    (`intervals.clustered_mean`).

    Raises TooFewImages for fewer than MIN_PATIENTS patients, Refusal for a score that is not finite, and
    ValueError where there are not as many patients as scores.
    """
    if len(patients) != len(scores):
        raise ValueError(f"{len(scores)} pairs but {len(patients)} patients")
    clusters = len(set(patients))
    if clusters < MIN_PATIENTS:
        raise TooFewImages(
            f"no mean over pairs with {clusters} held-out patients: it needs {MIN_PATIENTS}, "
            "below which its 95 % interval is untested"
        )
    return _mean(scores, numbered(patients), clusters)


def mean_over_own_pairs(scores: Tensor) -> Estimate:
    """The mean of scores [N] with its 95 % interval, of pairs in each of which are two images of no other.

    Raises TooFewImages for fewer than MIN_PATIENTS pairs, and Refusal for a score that is not finite.
    """
    if len(scores) < MIN_PATIENTS:
        raise TooFewImages(
            f"no mean over {len(scores)} pairs of generated images: it needs {MIN_PATIENTS}, "
            "below which its 95 % interval is untested"
        )
    return _mean(scores, torch.arange(len(scores)), None)


def _mean(scores: Tensor, units: Tensor, patients: int | None) -> Estimate:
    scores = scores.detach().cpu().to(torch.float64)
    if not bool(torch.isfinite(scores).all()):
        raise Refusal("not finite: the two images of a pair are equal, or one is broken")
    value, low, high = clustered_mean(scores, units)
    draws = clustered_mean_draws(scores, units)
    n = len(scores)
    return Estimate(value, low, high, n_real=n, n_generated=n, patients=patients, draws=draws)
