"""Decides the split into train, val and test by patient, the draw and the shards.

Every order comes from hashes without the key: of the seed and of what is in the source files. So neither the
file system nor the number of workers nor the key changes a plan: whoever builds from the same files gets the
same split in the same order. The draw alone hashes the files' names, since it decides which files are read.
Those of split and order hash the bytes of the files: a name or a patient's id can be guessed, and an order by
its hash would tell about where in the shards its images are.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from shards.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image in the plan: keyed hashes as names, and `content`, the SHA-256 of its source file (32 bytes).

    The content decides its place and is written nowhere.
    """

    key: str
    label: int
    patient: str
    cluster: str
    content: bytes


def hashed(purpose: str, seed: int, *parts: bytes) -> bytes:
    """32 bytes (SHA-256) by which one of the orders is sorted; each part carries its length."""
    message = (purpose.encode(), str(seed).encode(), *parts)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in message)).digest()


def draw_order(identities: Iterable[tuple[bytes, bytes]], seed: int) -> list[tuple[bytes, bytes]]:
    """The identities of files in the order in which `--per-class` draws them."""
    return sorted(identities, key=lambda identity: hashed("draw", seed, *identity))


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The smallest member of each item's connected component, for items 0..count-1 joined by `pairs`."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [root(item) for item in range(count)]


def group_samples(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Groups that must not straddle splits: samples joined by patient or cluster, directly or not."""
    ties = chain(
        _with_the_first(sample.patient for sample in samples),
        _with_the_first(sample.cluster for sample in samples),
    )
    groups: dict[int, list[Sample]] = defaultdict(list)
    for sample, component in zip(samples, connected(len(samples), ties), strict=True):
        groups[component].append(sample)
    return list(groups.values())


def _with_the_first(names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Each item with the first that has the same name, by their indices."""
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        yield seen.setdefault(name, index), index


def split_samples(
    samples: Sequence[Sample],
    classes: int,
    fractions: dict[str, float],
    seed: int,
    already: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, list[Sample]]:
    """Assign whole groups to splits, each class in about the asked fractions.

    `already`: how many images of each class are in each split before; the fractions count these too.

    The groups are taken by size, the largest first, by the smallest hash of their images within a size. Each
    goes to the split that is then the least full for the classes it holds (D'Hondt's rule), so that each
    split gets its share of large and of small groups, and the many groups of one image settle the fractions.
    """
    groups = group_samples(samples)
    groups.sort(
        key=lambda group: (-len(group), min(hashed("split", seed, sample.content) for sample in group))
    )
    already = already or {}
    totals = [sum(counts) for counts in zip(_count(samples, classes), *already.values(), strict=True)]
    wanted = {
        split: [fraction * total for total in totals] for split, fraction in fractions.items() if fraction > 0
    }
    filled = {split: list(already.get(split, [0] * classes)) for split in wanted}
    result: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for group in groups:
        counts = _count(group, classes)

        def fullness(split: str, counts: list[int] = counts) -> float:
            pairs = zip(counts, filled[split], wanted[split], strict=True)
            return sum(new * (old + new) / target for new, old, target in pairs if new)

        chosen = min(wanted, key=fullness)
        result[chosen] += group
        filled[chosen] = [old + new for old, new in zip(filled[chosen], counts, strict=True)]
    return result


def check_train(split: dict[str, list[Sample]], classes: Sequence[str]) -> None:
    """Raise UserError when training would never see one of the classes."""
    present = {sample.label for sample in split["train"]}
    for label, name in enumerate(classes):
        if label not in present:
            raise UserError(
                f"the train split has no image of class {name}: its patients are all in other splits; "
                "give more images, a larger train fraction in --split, or another --seed"
            )


def make_shards(samples: Sequence[Sample], most: int, seed: int) -> list[list[Sample]]:
    """Shards of at most `most` samples, equal in size within one, each about as balanced as the whole."""
    if not samples:
        return []

    def order(sample: Sample) -> tuple[bytes, int]:
        return hashed("order", seed, sample.content), sample.label

    by_class: dict[int, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=order):
        by_class[sample.label].append(sample)
    placed = [
        ((i + 0.5) / len(members), label, sample)
        for label, members in by_class.items()
        for i, sample in enumerate(members)
    ]
    mixed = [sample for *_, sample in sorted(placed, key=lambda place: place[:2])]
    count = -(-len(mixed) // most)
    edges = [len(mixed) * number // count for number in range(count + 1)]
    shards = [mixed[start:end] for start, end in pairwise(edges)]
    return [sorted(shard, key=order) for shard in shards]


def _count(samples: Iterable[Sample], classes: int) -> list[int]:
    counts = [0] * classes
    for sample in samples:
        counts[sample.label] += 1
    return counts
