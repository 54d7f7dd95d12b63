"""Structural similarity of pairs of images.

Wang et al. 2004, "Image quality assessment", eq. 13, with the window of section III.B.
"""

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

UNIT = "structural similarity, images in [0, 1]"
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
METHOD = f"Gaussian window of {WINDOW} px, sigma {SIGMA}, K1 {K1}, K2 {K2}, borders reflected"


def score(a: Tensor, b: Tensor) -> Tensor:
    """SSIM, float32 [N] in [-1, 1], of a[i] with b[i], each [N, 1, S, S] float32 in [0, 1]."""
    ssim = structural_similarity_index_measure(
        a, b, sigma=SIGMA, kernel_size=WINDOW, data_range=1.0, k1=K1, k2=K2, reduction="none"
    )
    assert isinstance(ssim, Tensor)  # it is a pair only when more is asked for
    return ssim
