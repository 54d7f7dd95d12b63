"""Peak signal-to-noise ratio of pairs of images.

10 log10(1 / MSE) of each pair of images in [0, 1]; a mean over pairs is the mean of these, not the ratio of a
mean error.
"""

from torch import Tensor

UNIT = "dB, images in [0, 1], mean over pairs"
METHOD = "10 log10(1 / MSE) of each pair, then the mean"


def score(a: Tensor, b: Tensor) -> Tensor:
    """PSNR in dB, float32 [N], of a[i] with b[i], each [N, 1, S, S] float32 in [0, 1].

    Infinite for two equal images.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # here, since its import takes seconds

    return peak_signal_noise_ratio(a, b, data_range=1.0, reduction="none", dim=(1, 2, 3))
