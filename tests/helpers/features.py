"""Features like an extractor's, drawn from a known distribution."""

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.difference import DRAWS
from chexdist.metrics.intervals import BootstrapWeights


def sample(seed: int, n: int, shift: float = 0.0, dim: int = 24) -> Tensor:
    """float64 [n, dim]: not negative, correlated, of falling variance; `shift` moves the distribution."""
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim))
    mixing = np.random.default_rng(0).standard_normal((dim, dim))
    return torch.from_numpy(np.maximum(hidden @ mixing + shift, 0))


def clustered(seed: int, patients: int) -> tuple[Tensor, list[int]]:
    """Three images of each patient, nearly the same; the patient of each."""
    own = sample(seed, patients).repeat_interleave(3, dim=0)
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(own.shape)) * 0.01
    return own + noise, [i // 3 for i in range(3 * patients)]


def dense(weights: BootstrapWeights) -> Tensor:
    """The bootstrap's weights of all images, [1 + DRAWS, N]."""
    whole = torch.empty(1 + DRAWS, len(weights.units), dtype=torch.float64)
    for images, some in weights:
        whole[:, images] = some
    return whole
