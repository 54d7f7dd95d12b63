"""Faults planted in phantom films: played-back images move recall and coverage out of their intervals."""

import numpy as np
import pytest
import torch
from helpers.phantom_films import films
from torch import Tensor

from chexdist.data.manifest import Split
from chexdist.evaluation.reference import Embedded, Reference
from chexdist.metrics import METRICS
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.extractor import load_extractor

NAMES = ("kid_x1000", "precision_k5", "recall_k5", "density_k5", "coverage_k5", "feature_distance")


def split(name: str, patients: range, labels: Tensor) -> Split:
    numbers = np.zeros(len(labels), dtype=np.int64)
    patient = np.repeat([f"{number}" for number in patients], 2)
    return Split(name, (), (), *[numbers] * 4, labels.numpy(), patient, patient, patient)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """360 training films and 120 held-out ones, two of each patient."""
    extractor = load_extractor("random-conv")

    def embedded(name: str, patients: range) -> Embedded:
        images, labels = films(patients)
        return Embedded(split(name, patients, labels), np.arange(len(labels)), extractor.features(images))

    training = embedded("train", range(180))
    return Reference(embedded("val", range(1000, 1060)), training, training)


@pytest.fixture(scope="module")
def unseen() -> Tensor:
    """Features of 180 films of patients who are in neither split: a generator that is right."""
    return load_extractor("random-conv").features(films(range(2000, 2090))[0])


def measured(reference: Reference, generated: Tensor) -> dict[str, Estimate]:
    return {name: reference.measure(METRICS[name], generated) for name in NAMES}


def baselines(reference: Reference, n: int) -> dict[str, float]:
    return {name: reference.real_baseline(METRICS[name], n).value for name in NAMES}


def test_held_out_films_move_nothing(reference: Reference, unseen: Tensor) -> None:
    real = baselines(reference, len(unseen))
    for name, found in measured(reference, unseen).items():
        assert found.low <= real[name] <= found.high, (name, found, real[name])


def test_films_played_back_are_seen_and_fewer_ones_more(reference: Reference, unseen: Tensor) -> None:
    """Precision does not see them, and would prefer them."""
    real, right = baselines(reference, 180), measured(reference, unseen)
    images = reference.training.features
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    before = right
    for different in (50, 5):
        found = measured(reference, images[order[:different]].repeat(180 // different + 1, 1)[:180])
        for name in ("recall_k5", "coverage_k5"):
            assert found[name].high < real[name] - 0.1 and found[name].high < right[name].low, name
            assert found[name].value < before[name].value or found[name].value == 0, name
        assert found["precision_k5"].value >= right["precision_k5"].value - 0.15
        before = found
    assert before["feature_distance"].high < real["feature_distance"]


def test_the_mean_film_over_and_over(reference: Reference) -> None:
    mean = films(range(180))[0].mean(0, keepdim=True)
    found = measured(reference, load_extractor("random-conv").features(mean).expand(180, -1))
    real = baselines(reference, 180)
    assert found["recall_k5"].high < 0.1 and found["feature_distance"].high == 0
    assert found["coverage_k5"].high < real["coverage_k5"] - 0.3


def test_fewer_images_are_measured_beside_as_few_real_ones(reference: Reference, unseen: Tensor) -> None:
    """Else recall and coverage would be low for no other reason."""
    few, all_of_half = (reference.real_baseline(METRICS["recall_k5"], n) for n in (40, 1000))
    assert (few.n_real, few.n_generated) == (40, 40)
    assert (all_of_half.n_real, all_of_half.n_generated) == (180, 180)
    found = reference.measure(METRICS["recall_k5"], unseen[:40])
    assert (found.n_real, found.n_generated) == (40, 40) and found.low <= few.value <= found.high
