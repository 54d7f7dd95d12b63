"""Equal pictures and files among the images of a build: what to say of them.

The split never separates equal pictures (see `duplicates`); whether they belong in the set at all, and which
of two labels is right, only a person knows.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence

SHOWN = 3


def copy_notes(
    names: Sequence[str],
    labels: Sequence[str],
    patients: Sequence[str | None],
    files: Sequence[Hashable],
    pictures: Sequence[Hashable],
) -> list[str]:
    """Lines on the images `names`: `files` and `pictures` are digests of their bytes and of their pixels."""
    lines = []
    copies = len(files) - len(set(files))
    if copies:
        group = next(group for group in _groups(files) if len(group) > 1)
        lines.append(
            f"{copies} images are exact copies of other files, such as {names[group[1]]!r} of "
            f"{names[group[0]]!r}: they are packed as often as they are given, in one split"
        )
    groups = [group for group in _groups(pictures) if len(group) > 1]
    two_labels = [group for group in groups if len({labels[i] for i in group}) > 1]
    if two_labels:
        shown = "; ".join(
            " and ".join(f"{names[i]!r} ({labels[i]})" for i in group[:SHOWN]) for group in two_labels[:SHOWN]
        )
        lines.append(
            f"{len(two_labels)} pictures are in more than one class, under each of its labels: {shown}"
            f"{'; ...' if len(two_labels) > SHOWN else ''}; remove one, or correct its label"
        )
    two_patients = sum(len({patients[i] for i in group if patients[i]}) > 1 for group in groups)
    if two_patients:
        lines.append(f"{two_patients} pictures are of more than one patient, who stay in one split")
    return lines


def _groups(digests: Sequence[Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        found[digest].append(index)
    return list(found.values())
