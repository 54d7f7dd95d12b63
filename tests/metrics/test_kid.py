"""KID against torchmetrics' kernel and a plain double loop, its bias, and what its interval covers."""

import numpy as np
import pytest
import torch
from helpers.features import clustered, dense, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from chexdist.metrics import kid as kid_module
from chexdist.metrics.estimate import TooFewImages
from chexdist.metrics.kid import measure as kid
from chexdist.metrics.kid import polynomial_kernel
from chexdist.metrics.kid_all_pairs import measure as kid_all_pairs
from chexdist.metrics.sides import MIN_UNITS, Sides


def by_double_loop(real: Tensor, generated: Tensor, real_patients: list[int]) -> float:
    """The definition, pair by pair, in plain Python."""
    x, y = real.tolist(), generated.tolist()

    def k(a: list[float], b: list[float]) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = range(len(x)), range(len(y))
    within_x = [k(x[i], x[j]) for i in n for j in n if real_patients[i] != real_patients[j]]
    within_y = [k(y[i], y[j]) for i in m for j in m if i != j]
    between = [k(x[i], y[j]) for i in n for j in m]
    parts = [sum(values) / len(values) for values in (within_x, within_y, between)]
    return 1000 * (parts[0] + parts[1] - 2 * parts[2])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(MIN_UNITS, 60), st.floats(-1, 1))
def test_value_is_torchmetrics_value(seed: int, n: int, shift: float) -> None:
    real, generated = sample(seed, n), sample(seed + 1, n, shift)
    oracle = 1000 * float(poly_mmd(real, generated))
    assert kid(real, generated).value == pytest.approx(oracle, rel=1e-6, abs=1e-6)


def test_value_with_different_sizes_and_patients_is_the_definition() -> None:
    real, generated = sample(1, 40), sample(2, 23, 0.3)
    patients = [i // 2 for i in range(40)]
    expected = by_double_loop(real, generated, patients)
    assert kid(real, generated, patients).value == pytest.approx(expected, rel=1e-10)


def test_more_rows_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Sides.of("KID", sample(1, 50), sample(2, 40), [i % 25 for i in range(50)])
    compute = kid_module.mmd.__wrapped__  # type: ignore[attr-defined]
    whole = compute(sides)
    monkeypatch.setattr("chexdist.metrics.intervals.HELD", 7)
    blocks = compute(sides)
    torch.testing.assert_close(blocks.independent_pairs, whole.independent_pairs)
    torch.testing.assert_close(blocks.all_pairs, whole.all_pairs)


def test_value_is_symmetric_and_distinct_patients_change_nothing() -> None:
    a, b = sample(3, 30), sample(4, 45, 0.2)
    assert kid(a, b).value == pytest.approx(kid(b, a).value, rel=1e-10)
    assert kid(a, b) == kid(a, b, [f"patient {i}" for i in range(30)])


def test_same_seed_same_interval() -> None:
    a, b = sample(3, 30), sample(4, 45, 0.2)
    assert kid(a, b, seed=5) == kid(a, b, seed=5)
    assert kid(a, b, seed=5).low != kid(a, b, seed=6).low


def test_mean_over_halves_of_one_distribution_is_zero() -> None:
    values = [kid(sample(2 * s, 25), sample(2 * s + 1, 20)).value for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_images_of_one_patient_do_not_bias_the_value() -> None:
    known, ignored = [], []
    for s in range(100):
        real, patients = clustered(2 * s, 16)
        generated, _ = clustered(2 * s + 1, 48)
        known.append(kid(real, generated[::3], patients).value)
        ignored.append(kid(real, generated[::3]).value)
    error = np.std(known) / np.sqrt(len(known))
    assert abs(np.mean(known)) < 3 * error
    assert np.mean(ignored) > 5 * error


def test_all_pairs_are_those_of_torchmetrics_whatever_the_patients() -> None:
    """By the same formula: the package's estimate of one subset that is the whole."""
    real, patients = clustered(1, 20)
    generated = sample(2, 60, 0.3)
    with_patients, without = kid_all_pairs(real, generated, patients), kid_all_pairs(real, generated)
    oracle = 1000 * float(poly_mmd(real, generated))
    assert with_patients.value == pytest.approx(oracle, rel=1e-10)
    assert without.value == pytest.approx(oracle, rel=1e-10) == kid(real, generated).value
    assert with_patients.value > kid(real, generated, patients).value
    assert with_patients.high - with_patients.low > 1.2 * (without.high - without.low)
    assert with_patients.patients == 20 and len(with_patients.draws) == 1000


def test_draws_of_all_pairs_are_the_weighted_means() -> None:
    real, patients = clustered(4, 16)
    generated = sample(5, 20, 0.3)
    ours, theirs = (dense(each)[-1] for each in Sides.of("KID", real, generated, patients).weights())
    parts = []
    for (x, u), (y, v), same in (
        ((real, ours), (real, ours), True),
        ((generated, theirs), (generated, theirs), True),
        ((real, ours), (generated, theirs), False),
    ):
        pairs = torch.outer(u, v)
        pairs = pairs - torch.diag(torch.diag(pairs)) if same else pairs
        parts.append(float((polynomial_kernel(x, y) * pairs).sum() / pairs.sum()))
    expected = 1000 * (parts[0] + parts[1] - 2 * parts[2])
    assert float(kid_all_pairs(real, generated, patients).draws[-1]) == pytest.approx(expected, rel=1e-10)


def test_interval_holds_the_value_and_shrinks_with_the_sample() -> None:
    widths = []
    for n in (50, 200, 800):
        estimate = kid(sample(1, n), sample(2, n, 0.3))
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.n_real, estimate.n_generated) == (n, n)
        widths.append(estimate.high - estimate.low)
    assert widths[0] > 1.5 * widths[1] > 2.25 * widths[2]


def test_patients_widen_the_interval() -> None:
    real, patients = clustered(1, 30)
    generated = sample(2, 2000, 0.4)
    known, ignored = kid(real, generated, patients), kid(real, generated)
    assert known.high - known.low > 1.3 * (ignored.high - ignored.low)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "shift"), [(16, 0.5), (64, 0.5), (200, 0.5), (64, 0.0)])
def test_interval_covers_the_truth(n: int, shift: float) -> None:
    estimates = [kid(sample(2 * s, n), sample(2 * s + 1, n, shift), seed=s) for s in range(300)]
    truth = (
        np.mean([e.value for e in estimates]) if shift else 0.0
    )  # the estimate is unbiased, as shown above
    covered = np.mean([e.low <= truth <= e.high for e in estimates])
    assert covered > 0.91  # 95 % less three standard errors of 300 trials


def test_refuses_what_can_not_be_right() -> None:
    a, b = sample(1, 30), sample(2, 30)
    with pytest.raises(TooFewImages, match=f"{MIN_UNITS - 1} generated images"):
        kid(a, b[: MIN_UNITS - 1])
    with pytest.raises(TooFewImages, match="3 real patients"):
        kid(a, b, [i % 3 for i in range(30)])
    with pytest.raises(ValueError, match="2 patients are on both sides"):
        kid(a, b, list(range(30)), generated_patients=list(range(28, 58)))
    with pytest.raises(ValueError, match="29 patients"):
        kid(a, b, list(range(29)))
    with pytest.raises(ValueError, match="not all finite"):
        kid(a, b.index_fill(0, torch.tensor([3]), torch.nan))
    with pytest.raises(ValueError, match="size 24"):
        kid(a, b[:, :20])


def test_kernel_is_cubic_in_the_scaled_product() -> None:
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert polynomial_kernel(x, 2 * x).item() == pytest.approx((10 / 2 + 1) ** 3)
