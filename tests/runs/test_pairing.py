"""Which images are paired: a function of shards and seed, evenly, never two of one training patient."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chexdist.data.manifest import Manifest, read_manifest
from chexdist.evaluation.pairing import Pairs
from chexdist.metrics.estimate import TooFewImages


@pytest.fixture(scope="module")
def manifest(shards: Path) -> Manifest:
    """72 training images of 24 patients here, 24 held-out ones of as many."""
    whole = read_manifest(str(shards))
    train = whole.splits["train"]
    patients = np.array([f"train {number % 24}" for number in range(len(train))])
    return dataclasses.replace(
        whole, splits={**whole.splits, "train": dataclasses.replace(train, patient=patients)}
    )


@pytest.mark.parametrize("label", [None, 0, 1])
@pytest.mark.parametrize("n", [1, 20, 100])
def test_pairs(manifest: Manifest, label: int | None, n: int) -> None:
    pairs = Pairs.draw(manifest, "val", label, n, seed=3)
    train, held_out = manifest.splits["train"], manifest.splits["val"]
    assert len(pairs.held_out) == n and 1 <= len(pairs.training) <= min(n, 24)
    if label is not None:
        assert set(held_out.label[pairs.held_out]) == set(train.label[pairs.training]) == {label}
    patients = train.patient[pairs.training].tolist()
    assert len(set(patients)) == len(patients)
    there = np.arange(len(held_out)) if label is None else np.flatnonzero(held_out.label == label)
    uses = Counter(pairs.held_out.tolist())
    assert {uses[number] for number in there.tolist()} <= {n // len(there), n // len(there) + 1}


def test_all_patients_are_there_when_there_is_room(manifest: Manifest) -> None:
    assert len(Pairs.draw(manifest, "val", None, 100, seed=3).training) == 24


def test_the_seed_decides(manifest: Manifest) -> None:
    first, again, other = (Pairs.draw(manifest, "val", 0, 50, seed) for seed in (1, 1, 2))
    for name in ("held_out", "training"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    more = Pairs.draw(manifest, "val", 0, 80, 1)
    assert np.array_equal(more.held_out[:50], first.held_out)


def test_a_class_that_is_not_there(manifest: Manifest) -> None:
    val = manifest.splits["val"]
    empty = dataclasses.replace(val, label=np.zeros_like(val.label))
    without = dataclasses.replace(manifest, splits={**manifest.splits, "val": empty})
    with pytest.raises(TooFewImages, match=f"split val has no image of class {manifest.classes[1]}"):
        Pairs.draw(without, "val", 1, 10, 0)
