"""FID against its formula with scipy's matrix root, and its refusals."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from chexdist.metrics.estimate import TooFewImages
from chexdist.metrics.fid import NO_INTERVAL
from chexdist.metrics.fid import measure as fid


def sample(seed: int, n: int, shift: float = 0.0, dim: int = 12) -> Tensor:
    """Features that are not negative, correlated, of falling variance."""
    hidden = np.random.default_rng(seed).standard_normal((n, dim)) / np.sqrt(1 + np.arange(dim))
    mixing = np.random.default_rng(0).standard_normal((dim, dim))
    return torch.from_numpy(np.maximum(hidden @ mixing + shift, 0))


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Heusel 2017, eq. 6."""
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root.real))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("n", "m", "shift"), [(24, 24, 0.0), (200, 50, 0.5), (40, 300, -1.0)])
def test_value_is_that_of_the_definition(n: int, m: int, shift: float, dtype: torch.dtype) -> None:
    real, generated = sample(1, n).to(dtype), sample(2, m, shift).to(dtype)
    estimate = fid(real, generated)
    assert estimate.value == pytest.approx(
        by_definition(real.double().numpy(), generated.double().numpy()), rel=1e-6
    )
    assert (estimate.low, estimate.high, estimate.no_interval) == (None, None, NO_INTERVAL)
    assert (estimate.n_real, estimate.n_generated) == (n, m)


def test_equal_sets_have_none() -> None:
    assert fid(sample(1, 100), sample(1, 100)).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(23, 500), (500, 23)])
def test_refuses_fewer_than_twice_the_features(n: int, m: int) -> None:
    with pytest.raises(TooFewImages, match=f"between {n} and {m} images: its 12 features need 24"):
        fid(sample(1, n), sample(2, m))
