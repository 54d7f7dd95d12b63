"""Structural similarity of pairs of images.

Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13, with the
window of section III.B, over all positions at which the window lies within the image, as scikit-image's
`structural_similarity` does with Gaussian weights.
"""

import torch
from torch import Tensor

UNIT = "structural similarity, images in [0, 1]"
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
METHOD = f"Gaussian window of {WINDOW} px, sigma {SIGMA}, K1 {K1}, K2 {K2}, windows within the image, float64"
BATCH = 8  # pairs in memory at once


def score(a: Tensor, b: Tensor) -> Tensor:
    """SSIM, float32 [N] in [-1, 1], of a[i] with b[i], each [N, 1, S, S] float32 in [0, 1]."""
    batches = zip(a.split(BATCH), b.split(BATCH), strict=True)
    parts = [similarity(x.to(torch.float64), y.to(torch.float64))[0] for x, y in batches]
    return torch.cat([a.new_empty(0), *parts]).to(torch.float32)


def similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part of contrast and structure: each [N], means over the windows in a[i] and b[i].

    The images [N, 1, S, S] in [0, 1] should be float64: a variance is a difference of large numbers.
    """
    mean_a, mean_b, aa, bb, ab = window_means(torch.cat([a, b, a * a, b * b, a * b], dim=1)).unbind(dim=1)
    means, product = mean_a**2 + mean_b**2, mean_a * mean_b
    c1, c2 = K1**2, K2**2
    structure = (2 * (ab - product) + c2) / (aa + bb - means + c2)
    luminance = (2 * product + c1) / (means + c1)
    return (luminance * structure).mean(dim=(1, 2)), structure.mean(dim=(1, 2))


def window_means(images: Tensor) -> Tensor:
    """Weighted means [..., S - WINDOW + 1, S - WINDOW + 1] of images [..., S, S] over each window within."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.softmax(-0.5 * (offsets / SIGMA) ** 2, dim=0).tolist()
    for axis in (-2, -1):  # sums of shifted images: a third of the time of a convolution on the CPU
        size = images.shape[axis] - WINDOW + 1
        total = images.narrow(axis, 0, size) * weights[0]
        for start, weight in enumerate(weights[1:], start=1):
            total.add_(images.narrow(axis, start, size), alpha=weight)
        images = total
    return images
