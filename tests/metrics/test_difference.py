"""Paired differences: their arithmetic, whose weights they share, and what their interval holds."""

import numpy as np
import pytest
import torch
from helpers.features import dense

from benchmarks.paired import Features, Held, rounds
from chexdist.metrics.difference import DRAWS, Difference, Sample, paired_difference, percentiles
from chexdist.metrics.intervals import BootstrapWeights, clustered_mean, clustered_mean_draws, numbered
from chexdist.metrics.kid import measure as kid
from chexdist.metrics.pairs import mean_over_pairs

SIZE = 16


def sample(value: float, *parts: np.ndarray) -> Sample:
    return Sample(value, value + sum(parts, np.zeros(DRAWS)))


def noise(seed: int, sd: float) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DRAWS) * sd


def test_what_both_share_is_not_in_the_difference() -> None:
    shared = noise(0, 90)
    a, b = sample(1248.0, shared, noise(1, 5)), sample(1301.0, shared, noise(2, 5))
    found = paired_difference(a, b)
    assert found.value == -53.0 and found.sign == -1
    assert -53 - 17 < found.low < -53 - 10 and -53 + 10 < found.high < -53 + 17
    assert percentiles(a.draws)[1] > percentiles(b.draws)[0]  # the two intervals overlap
    back = paired_difference(b, a)
    assert (back.value, back.low, back.high) == pytest.approx((53.0, -found.high, -found.low))


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(-2, -1, -1), (1, 2, 1), (-1, 1, 0), (0, 1, 0), (-1, 0, 0)]
)
def test_it_is_settled_where_the_interval_leaves_out_0(low: float, high: float, sign: int) -> None:
    assert Difference(0.0, low, high).sign == sign


def test_distance_to_real_counts_from_either_side() -> None:
    real = sample(10.0)
    above, below = sample(13.0).distance_to(real), sample(8.0).distance_to(real)
    assert (above.value, below.value) == (3.0, 2.0)
    assert (above.draws == 3).all() and (below.draws == 2).all()


def test_the_mean_of_seeds() -> None:
    one, other = sample(1.0, noise(1, 1)), sample(3.0, noise(2, 1))
    mean = Sample.mean([one, other])
    assert mean.value == 2.0 and np.allclose(mean.draws, (one.draws + other.draws) / 2)


def test_a_unit_has_its_weights_however_many_follow() -> None:
    few, many = (
        dense(BootstrapWeights(np.random.Generator(np.random.Philox(0)), torch.arange(n))) for n in (20, 50)
    )
    assert torch.equal(few, many[:, :20]) and few.shape == (1 + DRAWS, 20)
    assert (few[0] == 1).all() and 0.9 < float(few[1:].mean()) < 1.1


def features(seed: int, n: int, shift: float) -> torch.Tensor:
    """Like an extractor's: not negative, correlated."""
    mixing = np.random.default_rng(0).standard_normal((SIZE, SIZE))
    hidden = np.random.default_rng(seed).standard_normal((n, SIZE)) / np.sqrt(1 + np.arange(SIZE))
    return torch.from_numpy(np.maximum(hidden @ mixing + shift, 0)).float()


def test_two_generators_are_measured_under_the_same_weights() -> None:
    """The same images give the same draws; those of others vary with the same patients."""
    real, patients = features(1, 60, 0.0), [str(i // 2) for i in range(60)]
    a, b = features(2, 600, 0.4), features(3, 600, 0.5)
    first, second, again = (kid(real, each, patients) for each in (a, b, a))
    assert first.draws is not None and second.draws is not None and again.draws is not None
    assert torch.equal(first.draws, again.draws)
    assert np.corrcoef(first.draws, second.draws)[0, 1] > 0.7
    elsewhere = kid(real, b, patients, seed=1)
    assert elsewhere.draws is not None and abs(np.corrcoef(first.draws, elsewhere.draws)[0, 1]) < 0.2
    assert percentiles(first.draws.numpy()) == (first.low, first.high)


def test_means_over_pairs_have_draws_of_the_same_patients() -> None:
    random = np.random.default_rng(5)
    patients = [str(i % 40) for i in range(200)]
    own = random.standard_normal(40)[np.arange(200) % 40]
    a, b = (torch.from_numpy(own + random.standard_normal(200) * 0.1 + shift) for shift in (0.0, 0.2))
    first, second = mean_over_pairs(a, patients), mean_over_pairs(b, patients)
    assert first.draws is not None and second.draws is not None
    weights = dense(BootstrapWeights(np.random.Generator(np.random.Philox(0)), numbered(patients)))[
        1:
    ].numpy()
    expected = (weights * a.numpy()).sum(1) / weights.sum(1)
    np.testing.assert_allclose(first.draws.numpy(), expected, rtol=1e-12)
    value, low, high = clustered_mean(a, numbered(patients))
    by_draws = percentiles(clustered_mean_draws(a, numbered(patients)).numpy())
    assert by_draws == pytest.approx((low, high), abs=0.15 * (high - low)) and value == first.value
    difference = paired_difference(*(Sample(each.value, each.draws.numpy()) for each in (second, first)))
    assert 0.15 < difference.low < 0.2 < difference.high < 0.25
    assert difference.high - difference.low < (high - low) / 3


def population(patients: int = 300) -> Features:
    """Patients of one to four images that resemble each other, and two checkpoints of one run: the later one
    is a little nearer, and the same latents give similar images.
    """
    random = np.random.default_rng(7)
    counts = random.integers(1, 5, patients)
    names = [f"p{i:03d}" for i, count in enumerate(counts) for _ in range(count)]
    own = features(1, patients, 0.0).repeat_interleave(torch.from_numpy(counts), 0)
    real = own + torch.from_numpy(random.standard_normal(own.shape) * 0.2).float()
    latent = features(2, 1024, 0.0)
    a, b = (
        latent * spread + shift + torch.from_numpy(random.standard_normal(latent.shape) * 0.2).float()
        for spread, shift in ((0.8, 0.7), (0.82, 0.62))
    )
    return Features(real, names, a, b)


def is_right(held: Held) -> bool:
    """The interval holds the difference in about 95 %, is a third of an unpaired one, and settles it always,
    where two intervals mostly overlap.
    """
    narrow = held.width <= held.unpaired_width / 3
    return 0.9 <= held.holds <= 0.99 and narrow and held.settled == 1 and held.apart < 0.5


def test_the_interval_holds_the_difference_of_the_whole_population() -> None:
    held = rounds(population(), patients=60, number=40, redraw=True, generated=192)
    assert is_right(held), held


@pytest.mark.slow
def test_the_interval_holds_it_in_400_rounds() -> None:
    held = rounds(population(), patients=60, number=400, redraw=True, generated=192)
    assert is_right(held), held


def test_without_pairing_the_same_rounds_would_fail() -> None:
    """Draws of other patients' weights give a difference that is as wide as two intervals."""
    whole = population()
    kept = slice(0, 150)
    first = kid(whole.real[kept], whole.a[:192], whole.patients[kept])
    other = kid(whole.real[kept], whole.b[:192], whole.patients[kept], seed=1)
    same = kid(whole.real[kept], whole.b[:192], whole.patients[kept])
    assert first.draws is not None and other.draws is not None and same.draws is not None
    mine = Sample(first.value, first.draws.numpy())
    unpaired, paired = (
        paired_difference(mine, Sample(each.value, each.draws.numpy())) for each in (other, same)
    )
    assert unpaired.high - unpaired.low > 2.5 * (paired.high - paired.low)
