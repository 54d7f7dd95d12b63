"""Into which split of a set a new image has to go: that of its patient and of what it nearly is a copy of.

An image that is tied to two splits would put a patient, or a picture, into both. It is set aside; and where
new images that are tied to two splits are joined with each other only, all of them are.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from shards.plan import connected


def settle(
    patients: Sequence[Hashable], near: Iterable[tuple[int, int]], ties: Sequence[set[str]]
) -> tuple[list[str | None], dict[int, set[str]]]:
    """The split of each new image (None: any), and those to set aside with the splits that they are tied to.

    `near`: pairs of new images that are near-duplicates. `ties`: the splits that hold each image's patient
    or near-duplicates of it.
    """
    aside = {index: set(splits) for index, splits in enumerate(ties) if len(splits) > 1}
    first: dict[Hashable, int] = {}
    joined = [pair for pair in near if not aside.keys() & set(pair)]
    for index, patient in enumerate(patients):
        if index not in aside:
            joined.append((first.setdefault(patient, index), index))
    groups = connected(len(patients), joined)
    of_group: dict[int, set[str]] = defaultdict(set)
    for index, group in enumerate(groups):
        if index not in aside:
            of_group[group] |= ties[index]
    for index, group in enumerate(groups):
        if index not in aside and len(of_group[group]) > 1:
            aside[index] = of_group[group]
    splits = [next(iter(of_group[group]), None) for group in groups]
    return [None if index in aside else split for index, split in enumerate(splits)], aside
