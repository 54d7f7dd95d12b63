"""Pair metrics against scikit-image and pytorch-msssim, and what the interval of their mean covers."""

from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_msssim import ms_ssim
from scipy import ndimage, stats
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from chexdist.metrics import computed_from
from chexdist.metrics.estimate import Refusal, TooFewImages
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.intervals import student_quantile
from chexdist.metrics.pairs import (
    MIN_PATIENTS,
    PairProtocol,
    mean_over_own_pairs,
    mean_over_pairs,
    own_pair_scores,
    pair_scores,
)
from chexdist.metrics.preprocess import resize
from chexdist.metrics.protocol import DifferentProtocols, Protocol, require_same_protocol

PSNR, MSE, SSIM = computed_from("pairs")
(MS_SSIM,) = computed_from("own pairs")


def smooth(seed: int, n: int, side: int = 64) -> Tensor:
    """Images [n, 1, side, side] in [-1, 1] with large and small structure."""
    random = np.random.default_rng(seed)
    fields_ = [
        ndimage.gaussian_filter(random.standard_normal((n, side, side)), (0, s, s)) * s for s in (1, 6)
    ]
    return torch.from_numpy(np.tanh(sum(fields_)))[:, None].float()


def prepared(images: Tensor) -> np.ndarray:
    """What is scored of images in [-1, 1]: 256 levels, 256 px, in [0, 1], by float32's arithmetic."""
    return (resize(((images + 1) * 127.5).round(), 256) / 255).numpy()[:, 0]


@pytest.mark.parametrize("side", [32, 64, 256, 300])
def test_scores_are_scikit_image_s(side: int) -> None:
    a, b = smooth(1, 10, side), smooth(2, 10, side)
    b[5:] = (a[5:] + 0.1 * b[5:]).clamp(-1, 1)  # near 1, where contrasts are equal
    a[9], b[9] = a[9].clamp(-1, -0.99), a[9].clamp(-1, -0.98)  # flat: nothing but constants and rounding
    scores = pair_scores(a, b)
    for i, (x, y) in enumerate(zip(prepared(a), prepared(b), strict=True)):
        x, y = x.astype(np.float64), y.astype(np.float64)
        ssim = structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        assert float(scores[SSIM][i]) == pytest.approx(ssim, abs=1e-6)
        assert float(scores[PSNR][i]) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=1), abs=1e-3)
        assert float(scores[MSE][i]) == pytest.approx(mean_squared_error(x, y), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("side", [64, 256])
def test_own_pairs_are_scored_as_pytorch_msssim_does(side: int) -> None:
    images = smooth(1, 11, side)
    images[1::2] = (
        0.5 * images[:-1:2] + torch.linspace(0.1, 1, 5)[:, None, None, None] * images[1::2]
    ).clamp(-1, 1)
    scores = own_pair_scores(images)[MS_SSIM]
    x = torch.from_numpy(prepared(images)).double()[:10, None]
    # The package rounds its window's weights to float32, which alone moves a score by 2e-6.
    weights = stats.norm.pdf(np.arange(-5, 6), scale=1.5)
    window = torch.from_numpy(weights / weights.sum())[None, None, None]
    for win, tolerance in ((window, 1e-6), (None, 5e-6)):
        oracle = ms_ssim(x[::2], x[1::2], data_range=1, size_average=False, win=win)
        assert len(scores) == 5 and 0.01 < oracle.min() and oracle.max() < 0.99
        torch.testing.assert_close(scores.double(), oracle, rtol=0, atol=tolerance)


def test_own_pairs_that_are_known() -> None:
    image = smooth(1, 1)
    pairs = torch.cat([image, image, image, -image])
    assert own_pair_scores(pairs)[MS_SSIM].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert own_pair_scores(image)[MS_SSIM].shape == (0,)
    oracle = [
        ms_ssim(torch.from_numpy(prepared(x))[:, None], torch.from_numpy(prepared(y))[:, None], 1)
        for x, y in ((image, image), (image, -image))
    ]
    assert [float(each) for each in oracle] == pytest.approx([1, 0], abs=1e-4)


def test_scores_of_pairs_that_are_known() -> None:
    black, white = torch.full((1, 1, 64, 64), -1.0), torch.full((1, 1, 64, 64), 1.0)
    scores = pair_scores(torch.cat([black, black]), torch.cat([white, black]))
    assert scores[MSE].tolist() == [1, 0]
    assert scores[PSNR].tolist() == [0, float("inf")]
    assert scores[SSIM].tolist() == pytest.approx([0.01**2 / (1 + 0.01**2), 1], rel=1e-4)
    assert list(scores) == [PSNR, MSE, SSIM]


def test_scores_do_not_depend_on_the_order_or_the_batch() -> None:
    a, b = smooth(3, 5), smooth(4, 5)
    whole = pair_scores(a, b)
    for name, alone in pair_scores(b[2:3], a[2:3]).items():
        torch.testing.assert_close(alone, whole[name][2:3], rtol=1e-5, atol=1e-6)


def test_scores_are_those_of_the_exported_pictures() -> None:
    a, b = smooth(5, 3), smooth(6, 3)
    exported = ((a + 1) * 127.5).round().to(torch.uint8).float() / 127.5 - 1
    for name, scores in pair_scores(exported, b).items():
        assert torch.equal(scores, pair_scores(a, b)[name])
    with pytest.raises(ValueError, match="outside"):
        pair_scores(a * 255, b)


@pytest.mark.parametrize("freedom", [15, 16, 29, 100, 10_000])
def test_student_quantile(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(MIN_PATIENTS, 60))
def test_interval_over_patients_seen_once_is_student_s(seed: int, n: int) -> None:
    scores = np.random.default_rng(seed).standard_normal(n)
    estimate = mean_over_pairs(torch.from_numpy(scores), list(range(n)))
    low, high = stats.t.interval(0.95, n - 1, scores.mean(), stats.sem(scores))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
        (scores.mean(), low, high), abs=1e-4
    )
    assert estimate.n_generated == n


def test_own_pairs_are_independent() -> None:
    scores = torch.from_numpy(np.random.default_rng(1).standard_normal(40))
    own, paired_with_patients = mean_over_own_pairs(scores), mean_over_pairs(scores, list(range(40)))
    assert own == paired_with_patients and own.patients is None
    with pytest.raises(TooFewImages, match=f"over {MIN_PATIENTS - 1} pairs of generated images"):
        mean_over_own_pairs(scores[: MIN_PATIENTS - 1])


def test_pairs_of_one_patient_count_as_one_when_they_are_alike() -> None:
    own = torch.from_numpy(np.random.default_rng(0).standard_normal(20))
    once = mean_over_pairs(own, list(range(20)))
    often = mean_over_pairs(own.repeat(7), [*range(20)] * 7)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def paired(random: np.random.Generator, patients: int, n: int) -> tuple[Tensor, list[int]]:
    """Scores of n pairs, each with a part of its patient (1 to 4 images), held-out image and other image."""
    image_of = np.repeat(np.arange(patients), random.integers(1, 5, patients))
    drawn = np.resize(random.permutation(len(image_of)), n)
    patient, image = random.standard_normal(patients), random.standard_normal(len(image_of))
    scores = patient[image_of[drawn]] + 0.5 * image[drawn] + random.exponential(1.0, n) - 1
    return torch.from_numpy(scores), image_of[drawn].tolist()


@pytest.mark.parametrize(("patients", "n"), [(16, 128), (30, 256), (200, 512)])
def test_interval_covers_the_truth(patients: int, n: int) -> None:
    """The truth is 0; an interval over pairs as if they were independent does not cover it."""
    random = np.random.default_rng(patients)
    covered = np.zeros(2)
    for _ in range(600):
        scores, units = paired(random, patients, n)
        for kind, groups in enumerate((units, list(range(n)))):
            estimate = mean_over_pairs(scores, groups)
            assert estimate.low is not None and estimate.high is not None
            covered[kind] += estimate.low <= 0 <= estimate.high
    right, naive = covered / 600
    assert 0.92 <= right <= 0.98
    assert naive < 0.85


def test_refuses_what_can_not_be_right() -> None:
    scores = torch.arange(30.0)
    with pytest.raises(TooFewImages, match=f"with {MIN_PATIENTS - 1} held-out patients"):
        mean_over_pairs(scores, [i % (MIN_PATIENTS - 1) for i in range(30)])
    with pytest.raises(TooFewImages, match="with 0 held-out patients"):
        mean_over_pairs(scores[:0], [])
    with pytest.raises(Refusal, match="equal"):
        mean_over_pairs(scores.index_fill(0, torch.tensor([3]), torch.inf), list(range(30)))
    with pytest.raises(ValueError, match="30 pairs but 29"):
        mean_over_pairs(scores, list(range(29)))


def protocol() -> PairProtocol:
    return PairProtocol(pairing="random", image_size=64, reference="abc", reference_split="val", n=512)


@pytest.mark.parametrize("field", [field.name for field in fields(PairProtocol)])
def test_every_field_changes_the_hash_and_is_named(field: str) -> None:
    old: Any = getattr(protocol(), field)
    change: dict[str, Any] = {field: old + 1 if isinstance(old, int) else old + "x"}
    with pytest.raises(DifferentProtocols, match=rf"differ in {field} \(") as error:
        require_same_protocol(protocol(), replace(protocol(), **change))
    assert error.value.args[0].count("against") == 1
    assert protocol().hash != replace(protocol(), **change).hash


def test_pairs_and_features_are_never_compared() -> None:
    features = Protocol.of(
        load_extractor("random-conv"), image_size=64, reference="abc", reference_split="val", n=512
    )
    with pytest.raises(DifferentProtocols, match="PairProtocol"):
        require_same_protocol(protocol(), features)
    assert features.hash != protocol().hash and "resize" in asdict(protocol())
