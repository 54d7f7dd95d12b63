"""The mean distance of features against scipy's and the exact ratio, and what its interval covers."""

import numpy as np
import pytest
import torch
from helpers.features import clustered, dense, sample
from scipy.spatial.distance import pdist, squareform

from chexdist.metrics.estimate import TooFewImages
from chexdist.metrics.feature_distance import measure
from chexdist.metrics.sides import Sides

REAL = sample(1, 30)


def test_value_is_scipy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    generated = sample(2, 50)
    expected = pdist(generated.numpy()).mean()
    estimate = measure(REAL, generated)
    assert estimate.value == pytest.approx(expected, rel=1e-10)
    assert estimate.low < estimate.value < estimate.high and estimate.n_generated == 50
    monkeypatch.setattr("chexdist.metrics.sides.BLOCK", 7)
    monkeypatch.setattr("chexdist.metrics.intervals.HELD", 7)
    assert measure(REAL, generated).low == pytest.approx(estimate.low, rel=1e-10)


def test_pairs_of_one_patient_do_not_count() -> None:
    images, patients = clustered(3, 20)
    far = squareform(pdist(images.numpy()))
    other = np.subtract.outer(patients, patients) != 0
    estimate = measure(REAL, images, None, patients)
    assert estimate.value == pytest.approx(far[other].mean(), rel=1e-10)
    assert estimate.value > 1.02 * measure(REAL, images).value


def test_draws_are_those_of_the_weighted_ratio_to_first_order() -> None:
    images, patients = clustered(3, 60)
    estimate = measure(REAL, images, None, patients)
    far = squareform(pdist(images.numpy()))
    other = np.subtract.outer(patients, patients) != 0
    weights = dense(Sides.of("", REAL, images, None, patients).weights()[1])[1:].numpy()
    exact = ((weights @ far) * weights).sum(1) / ((weights @ other) * weights).sum(1)
    assert np.std(estimate.draws.numpy() - exact) < 0.15 * np.std(exact)
    assert np.corrcoef(estimate.draws.numpy(), exact)[0, 1] > 0.99


def test_real_features_do_not_enter() -> None:
    generated = sample(2, 50)
    assert measure(REAL, generated).value == measure(sample(9, 40, 1.0), generated).value


def test_fewer_kinds_of_images_are_nearer() -> None:
    few = sample(2, 5).repeat(20, 1)
    assert measure(REAL, few).high < 0.95 * measure(REAL, sample(3, 100)).low


@pytest.mark.parametrize("n", [32, 128])
def test_interval_covers_the_truth(n: int) -> None:
    estimates = [measure(REAL, sample(s, n)) for s in range(300)]
    truth = np.mean([each.value for each in estimates])  # unbiased
    assert 0.90 < np.mean([each.low <= truth <= each.high for each in estimates]) < 0.99


def test_refuses_what_can_not_be_right() -> None:
    with pytest.raises(TooFewImages, match="no feature distance from 15 generated images"):
        measure(REAL, REAL[:15])
    with pytest.raises(ValueError, match="not all finite"):
        measure(REAL, REAL.index_fill(0, torch.tensor([3]), torch.nan))
