"""PSNR, MSE and SSIM between random pairs of images, as the notebooks report them that compare X-ray GANs.

Two images of unlike patients show unlike things, so such a number says nothing of how real an image looks, and more is
not better: on X-rays, their mean image beats other X-rays in all three, and so does a blurred one. The yardstick is the
same number between real images of unlike patients; all that can be asked of a generator is to be like it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from chexdist.metrics.estimate import Estimate, Refusal, TooFewImages
from chexdist.metrics.precision import full_float32
from chexdist.metrics.preprocess import RESIZE, levels, resize
from chexdist.metrics.protocol import Hashed

SIZE = 256
UNITS = {
    "psnr_db_random_pairs_256px": "dB, images in [0, 1], mean over pairs",
    "mse_random_pairs_256px": "squared difference, images in [0, 1]",
    "ssim_random_pairs_256px": "structural similarity, images in [0, 1]",
}
PSNR, MSE, SSIM = UNITS
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang 2004, "Image quality assessment", section III.B
MIN_PATIENTS = 16  # simulated clusters: the interval covers the truth in 94 to 95 % of the cases from here on


@dataclass(frozen=True)
class PairProtocol(Hashed):
    """How a mean over `n` pairs was measured. `reference` is a digest of the real images, `pairing` what a pair has in common."""

    pairing: str
    image_size: int
    reference: str
    reference_split: str
    n: int
    size: int = SIZE
    value_range: str = "[0, 1] in 256 levels"
    resize: str = RESIZE
    psnr: str = "10 log10(1 / MSE) of each pair, then the mean"
    ssim: str = f"Gaussian window of {WINDOW} px, sigma {SIGMA}, K1 {K1}, K2 {K2}, borders reflected"
    version: int = 1  # raise it when a change of code moves a value and no other field shows it


def pair_scores(images: Tensor, others: Tensor) -> dict[str, Tensor]:
    """PSNR, MSE and SSIM of images[i] with others[i], each float32 [N], by metric name.

    Both are gray [N, 1, S, S] in [-1, 1], on one device. Rounded to 256 levels, resized to 256 px, scaled to [0, 1].
    The PSNR of two equal images is infinite. Raises ValueError as `levels` does.
    """
    a, b = (resize(levels(side), SIZE) / 255 for side in (images, others))
    with full_float32(a.device):
        ssim = structural_similarity_index_measure(
            a, b, sigma=SIGMA, kernel_size=WINDOW, data_range=1.0, k1=K1, k2=K2, reduction="none"
        )
        assert isinstance(ssim, Tensor)  # it is a pair only when more is asked for
        return {
            PSNR: peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3)),
            MSE: mean_squared_error(a.flatten(1).T, b.flatten(1).T, num_outputs=len(a)).reshape(len(a)),
            SSIM: ssim,
        }


def mean_over_pairs(scores: Tensor, patients: Sequence[Hashable]) -> Estimate:
    """The mean of scores [N] with its 95 % interval, where pair i holds a held-out image of patients[i].

    For pairs whose other image occurs once, and is of a patient that occurs once: then two pairs depend on each other
    only when they share the held-out patient. The variance is that of a mean over such clusters (Liang & Zeger 1986,
    "Longitudinal data analysis using generalized linear models", eq. 2, with G / (G - 1)), the quantile Student's with
    G - 1 degrees of freedom for G patients.

    Raises TooFewImages for fewer than MIN_PATIENTS patients, Refusal for a score that is not finite, and ValueError
    where there are not as many patients as scores.
    """
    if len(patients) != len(scores):
        raise ValueError(f"{len(scores)} pairs but {len(patients)} patients")
    numbers: dict[Hashable, int] = {}
    units = torch.tensor([numbers.setdefault(patient, len(numbers)) for patient in patients])
    clusters, n = len(numbers), len(scores)
    if clusters < MIN_PATIENTS:
        raise TooFewImages(
            f"no mean over pairs with {clusters} held-out patients: it needs {MIN_PATIENTS}, "
            "below which its 95 % interval is untested"
        )
    scores = scores.detach().cpu().to(torch.float64)
    if not bool(torch.isfinite(scores).all()):
        raise Refusal("not finite: the two images of a pair are equal, or one is broken")
    mean = scores.mean()
    per_patient = torch.zeros(clusters, dtype=torch.float64).index_add_(0, units, scores - mean)
    error = float((clusters / (clusters - 1) * (per_patient**2).sum()).sqrt()) / n
    reach = student_quantile(clusters - 1) * error
    value = float(mean)
    return Estimate(value, value - reach, value + reach, n_real=n, n_generated=n)


def student_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t (Abramowitz & Stegun 1964, eq. 26.7.5), to 1e-4 from 15 degrees of freedom on."""
    x = NormalDist().inv_cdf(0.975)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
