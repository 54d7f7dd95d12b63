"""The classifier of real images: closed forms against independent ones, planted faults, refusals."""

import numpy as np
import pytest
import torch
from helpers.features import dense
from helpers.phantom_films import films
from torch import Tensor

from chexdist.metrics.classifier import STRENGTH, Classifier, _Ridge, _solver
from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.intervals import DRAWS, BootstrapWeights, numbered
from chexdist.metrics.patches import REFLECTIONS, features, reflected, thumbnails
from chexdist.metrics.share import share

TRAINED, HELD_OUT = range(1, 151), range(151, 221)
PATIENTS = [patient for patient in HELD_OUT for _ in (0, 1)]


@pytest.fixture(scope="module")
def training() -> tuple[Tensor, Tensor]:
    images, labels = films(TRAINED)
    return thumbnails(images), labels


@pytest.fixture(scope="module")
def held_out() -> tuple[Tensor, Tensor]:
    images, labels = films(HELD_OUT)
    return thumbnails(images), labels


@pytest.fixture(scope="module")
def classifier(training: tuple[Tensor, Tensor]) -> Classifier:
    return Classifier.fit(*training, classes=2)


def turned(images: Tensor) -> dict[str, Tensor]:
    return {"mirrored": images.flip(2), "upside_down": images.flip(1), "inverted": 255 - images}


def test_reflecting_an_image_permutes_its_features(
    classifier: Classifier, held_out: tuple[Tensor, Tensor]
) -> None:
    images = held_out[0][:20]
    seen = features(classifier.filters, images)
    for name, other in turned(images).items():
        assert torch.allclose(features(classifier.filters, other), reflected(seen, name), atol=1e-3)
        assert not torch.allclose(seen, reflected(seen, name), atol=0.1)
        assert torch.equal(reflected(reflected(seen, name), name), seen)


def test_each_way_round_is_told_apart_on_held_out_patients(
    classifier: Classifier, held_out: tuple[Tensor, Tensor]
) -> None:
    images = held_out[0]
    for name, others in turned(images).items():
        as_taken, turned_round = (classifier.judge(each)[1] for each in (images, others))
        assert int(as_taken[name].sum()) <= 2
        # the score's sign flips with the image, but for rounding
        assert int((turned_round[name] == as_taken[name]).sum()) <= 1
        for other in {*REFLECTIONS} - {name}:
            assert int(turned_round[other].sum()) <= 2, (name, other)


def test_classes_are_told_apart_and_swapped_ones_seen(
    classifier: Classifier, held_out: tuple[Tensor, Tensor]
) -> None:
    images, labels = held_out
    seen, _ = classifier.judge(images)
    real, swapped = share(seen == labels, PATIENTS), share(seen == 1 - labels, None)
    assert real.low is not None and swapped.high is not None
    assert real.low > 0.5 > swapped.high


def test_trained_on_others(
    classifier: Classifier, training: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]
) -> None:
    images, labels = training
    seen, _ = classifier.judge(held_out[0])
    real = classifier.transfer(training, held_out, PATIENTS)
    assert real.value == float((seen == held_out[1]).double().mean())
    swapped = classifier.transfer((images, 1 - labels), held_out, PATIENTS)
    assert real.low is not None and swapped.high is not None and real.low > 0.5 > swapped.high
    assert real.n_generated == len(images) and real.n_real == len(PATIENTS) and real.patients == len(HELD_OUT)
    one = torch.zeros_like(labels)
    with pytest.raises(TooFewImages, match="1 of 2 classes"):
        classifier.transfer((images, one), held_out, PATIENTS)


def test_the_draws_follow_weighted_trainings(
    classifier: Classifier, training: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]
) -> None:
    """One Newton step, against as many ridge regressions with weighted images."""
    images, labels = training
    estimate = classifier.transfer(training, held_out, PATIENTS)
    assert estimate.draws is not None and estimate.draws.shape == (DRAWS,)
    random = np.random.Generator(np.random.Philox(0))
    of_patients = dense(BootstrapWeights(random, numbered(PATIENTS)))[1:]
    of_images = dense(BootstrapWeights(random, torch.arange(len(images))))[1:]
    inputs = features(classifier.filters, images).double() / classifier.scale
    tested = features(classifier.filters, held_out[0]).double() / classifier.scale
    centred = inputs - inputs.mean(0)
    penalty = STRENGTH * (centred**2).sum() / inputs.shape[1]
    exact = []
    for weight, patient in zip(of_images[:40], of_patients[:40], strict=True):
        weight = weight / weight.mean()
        targets = torch.nn.functional.one_hot(labels, 2).double()
        middle, bias = (weight @ each / len(images) for each in (inputs, targets))
        rows = (inputs - middle) * weight.sqrt()[:, None]
        gram = rows @ rows.T + penalty * torch.eye(len(rows), dtype=torch.float64)
        solved = torch.linalg.solve(gram, (targets - bias) * weight.sqrt()[:, None])
        correct = ((tested - middle) @ (rows.T @ solved) + bias).argmax(1) == held_out[1]
        exact.append(float((correct * patient).sum() / patient.sum()))
    found, wanted = estimate.draws[:40], torch.tensor(exact, dtype=torch.float64)
    assert float((found - wanted).mean().abs()) < 0.02
    assert 0.8 < float(found.std() / wanted.std()) < 1.4
    assert float(torch.corrcoef(torch.stack([found, wanted]))[0, 1]) > 0.7


@pytest.mark.parametrize("n", [50, 3000], ids=["wide", "tall"])
def test_ridge_regression_is_the_least_squares_solution(n: int) -> None:
    draws = torch.Generator().manual_seed(n)
    inputs = torch.randn(n, 300 if n > 300 else 2048, generator=draws, dtype=torch.float64)
    labels = torch.randint(0, 3, (n,), generator=draws)
    ridge = _Ridge.fit(inputs, labels, 3)
    centred = inputs - inputs.mean(0)
    penalty = STRENGTH * float((centred**2).sum()) / inputs.shape[1]
    rows = torch.cat([centred, penalty**0.5 * torch.eye(inputs.shape[1], dtype=torch.float64)])
    targets = torch.nn.functional.one_hot(labels, 3).double()
    wanted = torch.cat([targets - targets.mean(0), torch.zeros(inputs.shape[1], 3, dtype=torch.float64)])
    expected = torch.linalg.lstsq(rows, wanted).solution
    assert torch.allclose(ridge.weights, expected, atol=1e-10)
    assert torch.allclose(_solver(centred) @ wanted[:n], expected, atol=1e-10)


def test_the_same_images_give_the_same_classifier_and_its_file_is_checked(
    classifier: Classifier, training: tuple[Tensor, Tensor]
) -> None:
    again, kept = Classifier.fit(*training, classes=2), classifier.tensors()
    assert all(torch.equal(kept[name], each) for name, each in again.tensors().items())
    assert torch.equal(Classifier.of(kept, 2).weights, classifier.weights)
    broken = {"weights": kept["weights"].clone().fill_(torch.nan)}
    for tensors in ({}, {"filters": kept["filters"]}, kept | broken, kept | {"more": kept["bias"]}):
        with pytest.raises(ValueError, match="classifier"):
            Classifier.of(tensors, 2)
    with pytest.raises(ValueError, match="no classifier's"):
        Classifier.of(kept, 3)


def test_images_with_nothing_on_them_are_refused(training: tuple[Tensor, Tensor]) -> None:
    flat = torch.full((10, 32, 32), 80, dtype=torch.uint8)
    with pytest.raises(TooFewImages, match="flat"):
        Classifier.fit(flat, torch.arange(10) % 2, 2)
    images, labels = training
    with pytest.raises(TooFewImages, match="1 of 3 classes"):
        Classifier.fit(images, labels, 3)
    with pytest.raises(TooFewImages, match="2 training images"):
        Classifier.fit(images[:1], labels[:1], 2)


def interval(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None and estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize(("found", "n"), [(0, 80), (7, 80), (512, 512), (300, 512)])
def test_a_share_of_independent_images_has_jeffreys_interval(found: int, n: int) -> None:
    estimate = share(torch.arange(n) < found, None)
    beta = np.random.default_rng(0).beta(found + 0.5, n - found + 0.5, 200_000)
    low, high = np.quantile(beta, (0.025, 0.975))
    wanted = (min(low, found / n), max(high, found / n))
    assert estimate.value == found / n
    assert interval(estimate) == pytest.approx(wanted, abs=0.012)
    assert interval(estimate)[1] > interval(estimate)[0]


def test_images_of_one_patient_are_no_independent_ones() -> None:
    found = torch.arange(400) % 10 < 3
    alone, fours = (
        share(found, [*range(400)]),
        share(found.repeat_interleave(4), [n // 4 for n in range(1600)]),
    )
    (low, high), (low_of_fours, high_of_fours) = interval(alone), interval(fours)
    assert high_of_fours - low_of_fours == pytest.approx(high - low, rel=0.1)
    assert fours.patients == 400 and fours.n_real == 1600
    with pytest.raises(TooFewImages):
        share(found[:0], None)
