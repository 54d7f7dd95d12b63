"""What the promises say, as assertions. The mutant tests plant bugs and expect exactly these functions to fail."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chexdist.data.loader import Batch, batches
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.noise import Draw
from chexdist.distributed.partition import share
from helpers.training import Arrays, Draws, Trained


def check_same_tensors(reference: Arrays, other: Arrays, tolerance: float, what: str) -> None:
    """Promise 3: |other - reference| <= tolerance * |reference|, tensor by tensor, Euclidean norms."""
    assert reference and reference.keys() == other.keys()
    for name, expected in reference.items():
        norm, difference = np.linalg.norm(expected), np.linalg.norm(other[name] - expected)
        assert np.isfinite(norm) and norm > 0, f"{what}, {name}: norm {norm}"
        assert difference <= tolerance * norm, f"{what}, {name}: relative error {difference / norm:.1e}"


def check_same_training(
    reference: Trained, ranks: list[Trained], tolerance: float, what: str, weights: bool = True
) -> None:
    """Promise 3: a world gives the gradients, weights and losses of a world of one; all its ranks hold the same bytes."""
    assert len({rank.digest for rank in ranks}) == 1, f"{what}: ranks hold different weights"
    check_same_tensors(reference.gradients, ranks[0].gradients, tolerance, f"{what}, gradient")
    if weights:
        check_same_tensors(reference.weights, ranks[0].weights, tolerance, f"{what}, weights")
    losses = np.sum([rank.losses for rank in ranks], axis=0)
    # Sums over the images of numbers around 1, which may cancel: hence the absolute part.
    np.testing.assert_allclose(
        losses, reference.losses, rtol=max(tolerance, 1e-9), atol=tolerance, err_msg=what
    )


def check_same_draws(reference: Draws, ranks: list[Draws], batch: int, what: str) -> None:
    """Promise 2: the ranks' rows, put together, are each index of the global batch once and the bytes of a world of one."""
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


def check_continues(shards: Path, workers: int, first: int, **stream: int) -> None:
    """Promise 1: the stream opened at batch `first` is the stream from the start, without its first batches."""
    whole = itertools.islice(open_stream(shards, workers=workers, **stream), first, first + 4)
    later = itertools.islice(open_stream(shards, workers=workers, first=first, **stream), 4)
    for (pixels, labels), (expected_pixels, expected_labels) in zip(later, whole, strict=True):
        assert pixels.dtype == expected_pixels.dtype and pixels.equal(expected_pixels)
        assert labels.equal(expected_labels)
