"""The share of copies from how many images are flagged: intervals that hold it, and what is concluded."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from chexdist.metrics.near_copy_rate import (
    COPIES,
    NONE,
    TOO_FEW,
    beta_quantile,
    binomial_interval,
    measure,
    verdict,
)


@pytest.mark.parametrize("n", [1, 16, 64, 2000, 50_000])
def test_interval_of_a_share_is_that_of_scipy(n: int) -> None:
    for k in sorted({0, 1, n // 100, n // 2, n - 1, n}):
        expected = binomtest(k, n).proportion_ci(method="exact")
        assert binomial_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_beta_quantile_is_that_of_scipy() -> None:
    for a, b in ((0.3, 0.7), (1, 159), (3.2, 270.5), (500, 3), (1e4, 1e4)):
        for p in (1e-4, 0.025, 0.5, 0.975):
            assert beta_quantile(p, a, b) == pytest.approx(beta.ppf(p, a, b), abs=1e-9)


def test_images_of_one_patient_count_for_less() -> None:
    whole, half = binomial_interval(3, 400), binomial_interval(3, 400, weight=0.5)
    assert half[0] < whole[0] < whole[1] < half[1]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(("alarms", "found"), [(0.0, 1.0), (0.004, 0.97), (0.011, 0.9)])
def test_the_interval_holds_the_rate(rate: float, alarms: float, found: float) -> None:
    """Of 2,000 images, with mistakes of both kinds up to their bounds: in 93 of 100 draws or more."""
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        copies = draws.binomial(2000, rate)
        flagged = draws.binomial(copies, found) + draws.binomial(2000 - copies, alarms)
        estimate = measure(int(flagged), 2000, false_alarms=alarms, found=found, n_real=640, patients=433)
        assert estimate.low is not None and estimate.high is not None
        held += estimate.low <= rate <= estimate.high
    assert held >= 93


@pytest.mark.parametrize(
    ("flagged", "n", "concluded"),
    [
        (0, 256, NONE),
        (2, 256, NONE),
        (0, 16, TOO_FEW),
        (20, 256, COPIES),
        (2000, 2000, COPIES),
        (6, 6, COPIES),
    ],
)
def test_verdict(flagged: int, n: int, concluded: str) -> None:
    estimate = measure(flagged, n, false_alarms=0.011, found=0.8, n_real=640, patients=433)
    assert verdict(estimate) == concluded
    assert estimate.value == flagged / n
