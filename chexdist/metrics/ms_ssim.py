"""Structural similarity of pairs of images over five scales.

Wang et al. 2003, "Multiscale structural similarity for image quality assessment", eq. 7, with its five
exponents, over windows within the image, as the package `pytorch-msssim` computes it; torchmetrics reflects
the borders. Between generated images of one class it is a measure of diversity (Odena et al. 2017,
arXiv:1610.09585, section 4.2): the nearer to 1, the more similar they are.
"""

import torch
from torch import Tensor
from torch.nn import functional

from chexdist.metrics.ssim import BATCH, similarity

UNIT = "multiscale structural similarity, images in [0, 1]"
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def score(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM, float32 [N] in [0, 1], of a[i] with b[i], each [N, 1, S, S] float32 in [0, 1], S above 160.

    A mean that is negative at some scale counts as 0 there, whose root would be no number.
    """
    batches = zip(a.split(BATCH), b.split(BATCH), strict=True)
    parts = [_score(x.to(torch.float64), y.to(torch.float64)) for x, y in batches]
    return torch.cat([a.new_empty(0), *parts]).to(torch.float32)


def _score(a: Tensor, b: Tensor) -> Tensor:
    product = torch.ones(len(a), dtype=a.dtype, device=a.device)
    for scale, exponent in enumerate(EXPONENTS, start=1):
        whole, structure = similarity(a, b)
        last = scale == len(EXPONENTS)
        product = product * (whole if last else structure).clamp_min(0) ** exponent
        if not last:
            a, b = (functional.avg_pool2d(side, 2, padding=side.shape[-1] % 2) for side in (a, b))
    return product
