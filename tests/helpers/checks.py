"""What the promises say, as assertions. The mutant tests plant bugs and expect these functions to fail."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chexdist.data.loader import Batch, batches
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.noise import Draw
from chexdist.distributed.partition import share
from helpers.cases import BATCH
from helpers.training import Arrays, Draws, Trained, Update

UNIT_ROUNDOFF = 2.0**-24
"""Of float32: half the distance from 1 to the next number."""
STEP_ROUNDINGS = 16
"""Of Adam's step in float32: 4 of the numerator, 6 of the denominator, 4 after them, and 2 to spare."""
AVERAGE_ROUNDINGS = 4
BIASES = 5e-5
"""Tolerance of a bias's gradient in float32, where the networks of the tests are 2 to 8 channels wide: up to
1.4e-5 was seen."""
GENERATOR = 2
"""Index of the generator's among `Trained.losses`."""


def check_same_tensors(
    reference: Arrays, other: Arrays, tolerance: float, what: str, biases: float | None = None
) -> float:
    """Sum: |other - reference| <= tolerance * |reference|, tensor by tensor, Euclidean norms. Returns the
    largest relative error.

    `biases`: the tolerance of tensors of one dimension, where it is another.
    """
    assert reference and reference.keys() == other.keys()
    worst = 0.0
    for name, expected in reference.items():
        norm, difference = np.linalg.norm(expected), np.linalg.norm(other[name] - expected)
        permitted = biases if biases is not None and expected.ndim == 1 else tolerance
        assert np.isfinite(norm) and norm > 0, f"{what}, {name}: norm {norm}"
        assert difference <= permitted * norm, f"{what}, {name}: relative error {difference / norm:.1e}"
        worst = max(worst, float(difference / norm))
    return worst


def check_same_training(reference: Trained, ranks: list[Trained], what: str) -> float:
    """Sum, float64: a world gives the gradients, weights and losses of a world of one, to 1e-10. Returns the
    largest relative error of gradients and weights.
    """
    _check_same_weights_on_all_ranks(ranks, what)
    gradients = check_same_tensors(reference.gradients, ranks[0].gradients, 1e-10, f"{what}, gradient")
    losses = np.sum([rank.losses for rank in ranks], axis=0)
    # Sums over the images of numbers around 1, which may cancel: hence the absolute part.
    np.testing.assert_allclose(losses, reference.losses, rtol=1e-9, atol=1e-10, err_msg=what)
    return max(gradients, check_same_tensors(reference.weights, ranks[0].weights, 1e-10, f"{what}, weights"))


def check_same_step(reference: Trained, ranks: list[Trained], what: str, tolerance: float = 1e-5) -> float:
    """Sum, float32: a step from a checkpoint. Gradients to `tolerance` by norm, those of biases to 5e-5 at
    least: a bias sums over all pixels of real and of generated images, which cancel. Weights by what Adam
    makes of that. Returns the largest relative error of gradients. Of a tolerance of 1e-5:

    Let the gradients be g in one world and g' in the other, and u = 2^-24.

    1. |g' - g| <= 1e-5 |g|, tensor by tensor. Clipping scales by min(1, c / |all g|), which so differs by
       1e-5 at most: what Adam is given differs by 2e-5, and by the rounding of that scale.
    2. Adam (Kingma and Ba 2015, algorithm 1) has the same weight w, moments m and v and count k - 1 in both
       worlds. So its step is a function of the gradient alone, element by element,

           s(g) = lr * (b1 m + (1 - b1) g) / (1 - b1^k) / (sqrt((b2 v + (1 - b2) g^2) / (1 - b2^k)) + eps),

       and the weights differ by |s(g') - s(g)|. No multiple of 1e-5 |w| bounds this: with v = 0, as in a
       first step, s(g) is lr times the sign of g, and an element of g that is rounding has any sign. Hence s
       is computed here, in float64, at both gradients: a difference of gradients that 1 permits excuses what
       it causes, and nothing else. Clamping the weights is 1-Lipschitz and can only bring them closer.
    3. The average a + (1 - decay) (w - a) differs by 1 - decay times what w differs by.

    To this comes rounding, once for each world: u |w| for the weight; `STEP_ROUNDINGS` u |s|, where the terms
    of the numerator are summed without their signs, since a cancellation leaves their errors; and
    `AVERAGE_ROUNDINGS` u (|a| + |w|).
    """
    _check_same_weights_on_all_ranks(ranks, what)
    other, biases = ranks[0], max(tolerance, BIASES)
    worst = check_same_tensors(reference.gradients, other.gradients, tolerance, f"{what}, gradient", biases)
    _check_same_losses(reference, ranks, tolerance, what)
    assert reference.updates.keys() == other.updates.keys() == reference.gradients.keys()
    given = [
        {name: update.gradient for name, update in world.updates.items()} for world in (reference, other)
    ]
    check_same_tensors(*given, 2.1 * tolerance, f"{what}, clipped gradient", 2.1 * biases)
    assert reference.weights.keys() == other.weights.keys()
    for name, weight in reference.weights.items():
        difference = np.abs(other.weights[name].astype(np.float64) - weight)
        if name.startswith("ema."):
            permitted = _permitted_average(reference, other, name)
        else:
            permitted = _permitted_weight(reference.updates[name], other.updates[name], f"{what}, {name}")
        excess = np.max(difference - permitted)
        assert excess <= 0, f"{what}, {name}: differs by {excess:.1e} more than its gradients explain"
    return worst


def _check_same_weights_on_all_ranks(ranks: list[Trained], what: str) -> None:
    assert len({rank.digest for rank in ranks}) == 1, f"{what}: ranks hold different weights"


def _check_same_losses(reference: Trained, ranks: list[Trained], tolerance: float, what: str) -> None:
    """Sums over at most `BATCH` images of numbers around 1, which may cancel. The generator's comes after the
    critic's update, in which an element whose true gradient is 0 moves by the learning rate or by minus it.
    """
    difference = np.abs(np.sum([rank.losses for rank in ranks], axis=0) - reference.losses)
    permitted = tolerance * (np.abs(reference.losses) + BATCH)
    permitted[GENERATOR] += BATCH * max(update.lr for update in reference.updates.values())
    assert np.all(difference <= permitted), f"{what}: losses differ by {difference}, permitted {permitted}"


def _permitted_weight(update: Update, other: Update, what: str) -> np.ndarray:
    for name in ("weight", "exp_avg", "exp_avg_sq", "steps", "lr", "betas", "eps"):
        before, other_before = getattr(update, name), getattr(other, name)
        assert np.array_equal(before, other_before), f"{what}: another {name} before the step"
    (step, terms), (other_step, other_terms) = _adam_step(update), _adam_step(other)
    rounding = STEP_ROUNDINGS * (terms + other_terms) + 2 * np.abs(update.weight)
    return np.abs(other_step - step) + UNIT_ROUNDOFF * rounding


def _adam_step(update: Update) -> tuple[np.ndarray, np.ndarray]:
    """s(g) in float64, and the same with the terms of the numerator summed without their signs."""
    b1, b2, k = *update.betas, update.steps + 1
    arrays = (update.gradient, update.exp_avg, update.exp_avg_sq)
    g, m, v = (array.astype(np.float64) for array in arrays)
    denominator = np.sqrt((b2 * v + (1 - b2) * g**2) / (1 - b2**k)) + update.eps
    scale = update.lr / (1 - b1**k) / denominator
    return scale * (b1 * m + (1 - b1) * g), scale * (np.abs(m) + np.abs(g))


def _permitted_average(reference: Trained, other: Trained, name: str) -> np.ndarray:
    trained = name.replace("ema.", "generator.", 1)
    average, weight = reference.weights[name], reference.weights[trained].astype(np.float64)
    rounding = 2 * AVERAGE_ROUNDINGS * (np.abs(average) + np.abs(weight))
    return (1 - reference.decay) * np.abs(other.weights[trained] - weight) + UNIT_ROUNDOFF * rounding


def check_same_draws(reference: Draws, ranks: list[Draws], batch: int, what: str) -> None:
    """Noise: the ranks' rows, concatenated, are each index of the batch once, the bytes of a world of one."""
    expected = _whole(reference, batch, what)
    merged: Draws = {}
    for rank in ranks:
        for key, parts in rank.items():
            merged.setdefault(key, []).extend(parts)
    found = _whole(merged, batch, what)
    assert found.keys() == expected.keys(), f"{what}: other draws than in a world of one"
    for key, numbers in expected.items():
        assert found[key].tobytes() == numbers.tobytes(), f"{what}: {key} differs"
        if Draw[key[0]] is not Draw.GENERATOR_LABEL:
            assert len(np.unique(numbers, axis=0)) == batch, f"{what}: {key} repeats a row"


def _whole(draws: Draws, batch: int, what: str) -> dict[tuple[str, int], np.ndarray]:
    whole = {}
    for key, parts in draws.items():
        parts = sorted(parts, key=lambda part: part[0].start)
        rows = [row for part, _ in parts for row in part]
        assert rows == list(range(batch)), f"{what}: {key} is drawn for rows {rows}"
        whole[key] = np.concatenate([numbers for _, numbers in parts])
    return whole


def open_stream(
    shards: Path,
    *,
    batch: int = 16,
    group: int = 2,
    world_size: int = 1,
    rank: int = 0,
    first: int = 0,
    workers: int = 0,
    window: int = 0,
    memory_mib: int = 64,
) -> Iterator[Batch]:
    """A rank's batches through the production loader, seed 5."""
    return batches(
        SampleReader(read_manifest(str(shards)), "train", memory_mib),
        seed=5,
        window=window,
        batch=batch,
        share=share(batch, group, world_size, rank),
        first=first,
        workers=workers,
    )


def check_continues(shards: Path, workers: int, first: int, **stream: int) -> int:
    """Order: the stream opened at batch `first` is the stream from the start, without its first batches.
    Returns how many batches were compared.
    """
    compared = 0
    whole = itertools.islice(open_stream(shards, workers=workers, **stream), first, first + 4)
    later = itertools.islice(open_stream(shards, workers=workers, first=first, **stream), 4)
    for (pixels, labels), (expected_pixels, expected_labels) in zip(later, whole, strict=True):
        assert pixels.dtype == expected_pixels.dtype and pixels.equal(expected_pixels)
        assert labels.equal(expected_labels)
        compared += 1
    return compared
