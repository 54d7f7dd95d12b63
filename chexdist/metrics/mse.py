"""Mean squared error of pairs of images: the mean over pixels of the squared difference."""

from torch import Tensor

UNIT = "squared difference, images in [0, 1]"


def score(a: Tensor, b: Tensor) -> Tensor:
    """MSE, float32 [N] in [0, 1], of a[i] with b[i], each [N, 1, S, S] float32 in [0, 1]."""
    from torchmetrics.functional import mean_squared_error  # here, since its import takes seconds

    return mean_squared_error(a.flatten(1).T, b.flatten(1).T, num_outputs=len(a)).reshape(len(a))
