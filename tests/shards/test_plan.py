"""Draw, groups, split and shards: properties that hold for any set of samples."""

import hashlib
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.identity import Names
from shards.plan import Sample, check_train, connected, draw_order, group_samples, make_shards, split_samples

NAMES = Names(bytes(32))
FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def content(number: int) -> bytes:
    """The SHA-256 of an invented file."""
    return hashlib.sha256(str(number).encode()).digest()


@st.composite
def sample_sets(draw: st.DrawFn) -> list[Sample]:
    count = draw(st.integers(1, 120))
    people, copies = draw(st.integers(1, count)), draw(st.integers(1, 2 * count))
    rng = random.Random(draw(st.integers(0, 2**32)))
    return [
        Sample(
            key=NAMES.name("sample", str(number).encode()),
            label=rng.randrange(2),
            patient=NAMES.name("patient", str(rng.randrange(people)).encode()),
            cluster=NAMES.name("cluster", str(rng.randrange(copies)).encode()),
            content=content(number),
        )
        for number in range(count)
    ]


@given(sample_sets(), st.integers(0, 3))
def test_no_patient_and_no_cluster_is_in_two_splits(samples: list[Sample], seed: int) -> None:
    split = split_samples(samples, 2, FRACTIONS, seed)
    assert sorted(sample.key for part in split.values() for sample in part) == sorted(s.key for s in samples)
    for column in ("patient", "cluster"):
        where = [{getattr(sample, column) for sample in part} for part in split.values()]
        assert sum(map(len, where)) == len(set.union(*where))


@given(sample_sets(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_files(samples: list[Sample], rng: random.Random) -> None:
    shuffled = rng.sample(samples, len(samples))
    plans = []
    for given_order in (samples, shuffled):
        split = split_samples(given_order, 2, FRACTIONS, 5)
        plans.append({name: make_shards(part, 16, 5) for name, part in split.items()})
    assert plans[0] == plans[1]


@given(sample_sets())
def test_fractions_are_met_within_the_largest_group(samples: list[Sample]) -> None:
    largest = max(len(group) for group in group_samples(samples))
    split = split_samples(samples, 2, FRACTIONS, 0)
    for name, fraction in FRACTIONS.items():
        assert abs(len(split[name]) - fraction * len(samples)) <= 2 * largest + 2


@pytest.mark.parametrize("seed", range(5))
def test_fractions_and_classes_of_many_small_groups_are_met_within_one_per_cent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    for patient in range(400):
        for _ in range(int(rng.geometric(0.5))):
            key = NAMES.name("sample", str(len(samples)).encode())
            owner = NAMES.name("patient", str(patient).encode())
            samples.append(Sample(key, int(rng.random() < 0.3), owner, key, content(len(samples))))
    split = split_samples(samples, 2, FRACTIONS, seed)
    share = sum(sample.label for sample in samples) / len(samples)
    for name, fraction in FRACTIONS.items():
        assert abs(len(split[name]) / len(samples) - fraction) < 0.01
        assert abs(sum(sample.label for sample in split[name]) / len(split[name]) - share) < 0.03
        sizes = Counter(sample.patient for sample in split[name])
        assert 1.5 < len(split[name]) / len(sizes) < 2.5  # no split gets the large patients only


def test_a_fraction_of_nought_gets_nothing_and_the_seed_matters() -> None:
    samples = [Sample(f"{n:016x}", n % 2, f"{n:016x}", f"{n:016x}", content(n)) for n in range(100)]
    everything = split_samples(samples, 2, {"train": 1.0, "val": 0.0, "test": 0.0}, 0)
    assert [len(everything[name]) for name in ("train", "val", "test")] == [100, 0, 0]
    first, second = (split_samples(samples, 2, FRACTIONS, seed)["test"] for seed in (0, 1))
    assert set(first) != set(second)


def test_a_class_missing_in_train_is_refused() -> None:
    sample = Sample("0" * 16, 0, "0" * 16, "0" * 16, bytes(32))
    with pytest.raises(UserError, match="no image of class finding"):
        check_train({"train": [sample]}, ["no_finding", "finding"])


@given(sample_sets(), st.integers(1, 50))
def test_shards_are_even_balanced_and_complete(samples: list[Sample], most: int) -> None:
    shards = make_shards(samples, most, 0)
    assert sorted(s.key for shard in shards for s in shard) == sorted(s.key for s in samples)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
    ones = sum(sample.label for sample in samples)
    for shard in shards:
        assert abs(sum(sample.label for sample in shard) - ones * len(shard) / len(samples)) <= 2


def test_labels_are_mixed_within_a_shard() -> None:
    samples = [Sample(f"{n:016x}", int(n < 100), f"{n:016x}", f"{n:016x}", content(n)) for n in range(200)]
    (shard,) = make_shards(samples, 200, 0)
    changes = sum(a.label != b.label for a, b in pairwise(shard))
    assert 70 < changes < 130


@given(st.integers(1, 40), st.data())
def test_connected_is_the_finest_partition_that_respects_all_pairs(count: int, data: st.DataObject) -> None:
    item = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(item, item), max_size=40))
    expected = list(range(count))
    for _ in range(count):  # spread the smallest number until nothing changes
        for first, second in pairs:
            expected[first] = expected[second] = min(expected[first], expected[second])
    assert connected(count, pairs) == expected


def test_draw_order_is_a_permutation_that_depends_on_the_seed_alone() -> None:
    files = [(b"0", f"{n}.png".encode()) for n in range(50)]
    orders = [draw_order(files, 0), draw_order(files, 1)]
    assert all(sorted(order) == sorted(files) for order in orders)
    assert orders[0] != orders[1]
    assert draw_order(reversed(files), 0) == orders[0]


def test_hash_domains_and_parts_are_kept_apart() -> None:
    assert NAMES.name("patient", b"1") != NAMES.name("sample", b"1")
    assert NAMES.name("sample", b"ab", b"c") != NAMES.name("sample", b"a", b"bc")
    assert Names(b"y" * 32).key_id != NAMES.key_id
