"""Precision, recall, density, coverage against `prdc` and a plain double loop; what their intervals cover."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.features import clustered, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy import stats
from torch import Tensor

from chexdist.metrics import coverage, density, neighbours, precision, recall
from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.neighbours import K
from chexdist.metrics.sides import MIN_UNITS, Sides

FOUR = {each.__name__.rpartition(".")[2]: each for each in (precision, recall, density, coverage)}


def four(real: Tensor, generated: Tensor, *patients: Any) -> dict[str, Estimate]:
    return {name: module.measure(real, generated, *patients) for name, module in FOUR.items()}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(MIN_UNITS, 80), st.integers(MIN_UNITS, 80), st.floats(-1, 1))
def test_values_are_those_of_prdc(seed: int, n: int, m: int, shift: float) -> None:
    real, generated = sample(seed, n), sample(seed + 1, m, shift)
    oracle = compute_prdc(real.numpy(), generated.numpy(), nearest_k=5)
    for name, estimate in four(real, generated).items():
        assert estimate.value == pytest.approx(oracle[name], abs=1e-6)
        assert (estimate.n_real, estimate.n_generated) == (n, m)


def by_double_loop(x: Tensor, y: Tensor, patients: list[int]) -> dict[str, float]:
    """The definition, image by image; a neighbour is one of another patient."""
    n, m = range(len(x)), range(len(y))

    def far(a: Tensor, b: Tensor) -> float:
        return float((a - b).norm())

    real = [sorted(far(x[i], x[j]) for j in n if patients[i] != patients[j])[K - 1] for i in n]
    generated = [sorted(far(y[i], y[j]) for j in m if i != j)[K - 1] for i in m]
    inside = [[far(x[i], y[j]) < real[i] for j in m] for i in n]
    return {
        "precision": np.mean([any(inside[i][j] for i in n) for j in m]),
        "recall": np.mean([any(far(x[i], y[j]) < generated[j] for j in m) for i in n]),
        "density": np.sum(inside) / K / len(y),
        "coverage": np.mean([any(inside[i]) for i in n]),
    }


def test_neighbours_are_of_other_patients() -> None:
    real, patients = clustered(1, 17)
    generated = sample(2, 30, 0.2)
    expected = by_double_loop(real, generated, patients)
    independent = four(real, generated)
    for name, estimate in four(real, generated, patients).items():
        assert estimate.value == pytest.approx(expected[name], abs=1e-12)
        assert estimate.patients == 17
    assert expected["density"] > 1.2 * independent["density"].value


def test_more_rows_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Sides.of("recall", sample(1, 50), sample(2, 40, 0.3), [i % 25 for i in range(50)])
    compute = neighbours.neighbours.__wrapped__  # type: ignore[attr-defined]
    whole = compute(sides)
    monkeypatch.setattr("chexdist.metrics.sides.BLOCK", 7)
    monkeypatch.setattr("chexdist.metrics.intervals.HELD", 7)
    blocks = compute(sides)
    for name in FOUR:
        for part in ("values", "changes"):
            torch.testing.assert_close(
                getattr(getattr(blocks, name), part), getattr(getattr(whole, name), part)
            )


def test_four_metrics_compute_neighbours_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = neighbours.squared_distances
    monkeypatch.setattr(neighbours, "squared_distances", lambda *a: calls.append(1) or original(*a))
    real, generated = sample(11, 30), sample(12, 30)
    four(real, generated)
    assert len(calls) == 3  # real, generated, between
    four(real.clone(), generated.clone())
    assert len(calls) == 3
    four(real, generated + 0.1)
    assert len(calls) == 6


def test_changes_are_those_without_an_image() -> None:
    """The jackknife's terms: exact for recall's and coverage's generated images while balls keep their size,
    and for density's real ones altogether."""
    real, generated = sample(5, 40), sample(6, 30, 0.4)
    found = neighbours.neighbours(Sides.of("", real, generated))
    for j in range(30):
        without = torch.cat([generated[:j], generated[j + 1 :]])
        expected = coverage.measure(real, generated).value - coverage.measure(real, without).value
        assert float(found.coverage.changes[j]) == pytest.approx(expected, abs=1e-12)
    for i in range(40):
        without = torch.cat([real[:i], real[i + 1 :]])
        expected = density.measure(real, generated).value - density.measure(without, generated).value
        assert float(found.density.changes[i]) == pytest.approx(expected, abs=1e-12)
    assert found.precision.changes.min() >= 0 and found.precision.changes.sum() > 0


def test_the_same_images_over_and_over_recall_nothing() -> None:
    """Also where features of equal images differ by float32's rounding, and where they are real images."""
    real = sample(1, 200).float()
    few = torch.cat([real[:10], sample(2, 10).float()]).repeat(10, 1)
    other = four(real, sample(3, 200).float())
    assert other["recall"].low > 0.5
    rounding = 1 + 1e-7 * torch.from_numpy(np.random.default_rng(0).standard_normal(few.shape)).float()
    for generated in (few, few * rounding):
        found = four(real, generated)
        assert found["recall"].value == found["recall"].low == 0 < found["recall"].high < 0.03
        assert found["coverage"].high < other["coverage"].low - 0.2 and found["precision"].value > 0.8


def test_draws_hold_the_interval_and_share_the_weights_of_patients() -> None:
    real, patients = clustered(1, 40)
    first, second = four(real, sample(2, 120, 0.3), patients), four(real, sample(3, 120, 0.9), patients)
    for name, module in FOUR.items():
        a = first[name]
        assert a.draws.dtype == torch.float64 and len(a.draws) == 1000
        assert a.low <= a.value <= a.high
        assert float(a.draws.quantile(0.025)) == pytest.approx(a.low, abs=1e-12)
        assert (0 <= a.draws).all() and (name == "density" or (a.draws <= 1).all())
        assert a == module.measure(real, sample(2, 120, 0.3), patients)
    correlation = np.corrcoef(first["coverage"].draws, second["coverage"].draws)[0, 1]
    assert correlation > 0.2


def test_a_share_of_nothing_or_all_has_jeffreys_interval() -> None:
    """For independent images, when nothing else varies: that of the beta distribution."""
    real, patients = clustered(1, 50)
    one = sample(2, 1).expand(50, -1)
    nothing = recall.measure(real, one)
    assert (nothing.value, nothing.low) == (0, 0)
    assert nothing.high == pytest.approx(stats.beta.ppf(0.975, 0.5, 150.5), rel=0.1)
    by_patients = recall.measure(real, one, patients)
    assert by_patients.high == pytest.approx(stats.beta.ppf(0.975, 0.5, 50.5), rel=0.1)
    everything = precision.measure(real, real.mean(0).expand(40, -1))
    assert (everything.value, everything.high) == (1, 1)
    assert everything.low == pytest.approx(stats.beta.ppf(0.025, 40.5, 0.5), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "shift"), [(64, 0.0), (64, 0.5), (256, 0.5), (256, 1.0)])
def test_interval_covers_the_truth(n: int, shift: float) -> None:
    found = [four(sample(2 * s, n), sample(2 * s + 1, n, shift)) for s in range(300)]
    for name in FOUR:
        estimates = [each[name] for each in found]
        truth = np.mean([each.value for each in estimates])
        covered = np.mean([each.low <= truth <= each.high for each in estimates])
        # 95 % less four standard errors of 300 trials; shares near 1 have fewer values than a quantile needs
        assert covered > 0.90, name


def peak(measure: Callable[[Tensor, Tensor], Estimate], n: int) -> float:
    """Bytes of the largest matrix that torch made."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel() * out.element_size())
            return out

    real, generated = sample(21, n, dim=4), sample(22, n, 0.2, dim=4)
    with Watch():
        measure(real, generated)
    return largest


def test_no_matrix_grows_with_the_square_of_the_images() -> None:
    for module in FOUR.values():
        assert peak(module.measure, 3000) <= 3.1 * peak(module.measure, 1000)


def test_refuses_what_can_not_be_right() -> None:
    a, b = sample(1, 30), sample(2, 30)
    for name, module in FOUR.items():
        with pytest.raises(TooFewImages, match=f"no {name} from {MIN_UNITS - 1} generated images"):
            module.measure(a, b[: MIN_UNITS - 1])
        with pytest.raises(TooFewImages, match="3 real patients"):
            module.measure(a, b, [i % 3 for i in range(30)])
        with pytest.raises(ValueError, match="1 patients are on both sides"):
            module.measure(a, b, list(range(30)), list(range(29, 59)))
        with pytest.raises(ValueError, match="not all finite"):
            module.measure(a, b.index_fill(0, torch.tensor([3]), torch.inf))
