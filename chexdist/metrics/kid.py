"""Kernel Inception Distance with an interval: how far features of generated images are from real ones.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared MMD with the kernel k(x, y) = (x.y /
D + 1)^3. Unlike FID it is unbiased at any number of images, so its expectation is 0 for two samples of one
distribution, and single values may be negative. Values are multiplied by 1000, as the name `kid_x1000` says.
"""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.intervals import bootstrap_interval, bootstrap_weights, numbered

UNIT = "squared MMD x 1000"
SCALE = 1000.0
MIN_UNITS = 16  # resampled real X-rays: the interval covers the truth in 98 % of the cases here, 95 % at 150
BLOCK = 1024  # rows of a Gram matrix held at once


def measure(
    real: Tensor,
    generated: Tensor,
    real_patients: Sequence[Hashable] | None = None,
    generated_patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Estimate:
    """KID x 1000 between features real [N, D] and generated [M, D], in float64, with a 95 % interval.

    `real_patients[i]` is the patient of real image i; None means that all images are independent. Pairs of
    images of one patient are left out: the estimate is unbiased only over independent pairs (Lee & Dehling
    2005, "Generalized two-sample U-statistics for clustered data"), and images of one patient resemble each
    other. `generated_patients` does the same for the other side, where that side is real too, as for the real
    baseline.

    The interval is the Bayesian bootstrap over patients, or over images without one
    (`intervals.bootstrap_weights`). It is too wide, never too narrow, where both sides have the same
    distribution (there the statistic is degenerate and the weights' linear term comes on top).

    Raises TooFewImages for fewer than MIN_UNITS patients (or images) on a side, and ValueError for features
    that are not finite or not of one D and for a patient on both sides.
    """
    real, generated = (_checked(side, name) for side, name in ((real, "real"), (generated, "generated")))
    if real.shape[1] != generated.shape[1]:
        raise ValueError(f"real features have size {real.shape[1]}, generated ones {generated.shape[1]}")
    real_units = _units(real, real_patients, "real")
    generated_units = _units(generated, generated_patients, "generated")
    if real_patients is not None and generated_patients is not None:
        shared = set(real_patients) & set(generated_patients)
        if shared:
            raise ValueError(f"{len(shared)} patients are on both sides; compare disjoint patients")
    random = np.random.Generator(np.random.Philox(seed))
    real_weights = bootstrap_weights(random, real_units)
    generated_weights = bootstrap_weights(random, generated_units)
    draws = SCALE * (
        _mean_within(real, real_weights, real_units)
        + _mean_within(generated, generated_weights, generated_units)
        - 2 * _mean_between(real, real_weights, generated, generated_weights)
    )
    low, high = bootstrap_interval(draws[1:])
    return Estimate(
        float(draws[0]),
        low,
        high,
        len(real),
        len(generated),
        patients=None if real_patients is None else len(set(real_patients)),
        draws=draws[1:].cpu(),
    )


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Gram matrix [N, M] of x [N, D] and y [M, D]: (x.y / D + 1)^3, Binkowski et al. 2018, section 4."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _checked(features: Tensor, side: str) -> Tensor:
    if features.ndim != 2:
        raise ValueError(f"{side} features have shape {list(features.shape)}; expected [images, size]")
    features = features.detach().to(torch.float64)
    if not bool(torch.isfinite(features).all()):
        raise ValueError(
            f"{side} features are not all finite; the extractor's input or the generator is broken"
        )
    return features


def _units(features: Tensor, patients: Sequence[Hashable] | None, side: str) -> Tensor:
    """The number of each image's patient [N], or of the image itself where patients are not given."""
    if patients is not None and len(patients) != len(features):
        raise ValueError(f"{len(features)} {side} images but {len(patients)} patients")
    units = range(len(features)) if patients is None else patients
    count = len(set(units))
    if count < MIN_UNITS:
        what = "images" if patients is None else "patients"
        raise TooFewImages(
            f"no KID from {count} {side} {what}: it needs {MIN_UNITS}, below which its 95 % interval is "
            "untested"
        )
    return numbered(units).to(features.device)


def _mean_within(x: Tensor, weights: Tensor, units: Tensor) -> Tensor:
    """Weighted mean of the kernel over pairs of images of two units, for each row of weights."""
    total = torch.zeros(len(weights), dtype=x.dtype, device=x.device)
    for rows in torch.arange(len(x), device=x.device).split(BLOCK):
        same_unit = units[rows, None] == units[None, :]
        gram = polynomial_kernel(x[rows], x).masked_fill(same_unit, 0)
        total += (weights[:, rows] @ gram * weights).sum(1)
    per_unit = torch.zeros(len(weights), int(units.max()) + 1, dtype=x.dtype, device=x.device)
    per_unit.index_add_(1, units, weights)
    return total / (per_unit.sum(1) ** 2 - (per_unit**2).sum(1))


def _mean_between(x: Tensor, x_weights: Tensor, y: Tensor, y_weights: Tensor) -> Tensor:
    """Weighted mean of the kernel over all pairs of an x and a y, for each row of weights."""
    total = torch.zeros(len(x_weights), dtype=x.dtype, device=x.device)
    for rows in torch.arange(len(x), device=x.device).split(BLOCK):
        total += (x_weights[:, rows] @ polynomial_kernel(x[rows], y) * y_weights).sum(1)
    return total / (x_weights.sum(1) * y_weights.sum(1))
