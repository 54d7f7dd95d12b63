"""Equal pictures and files among the images of a build: which can't be used, and what to say of the others.

The split never separates equal pictures (see `linking`); whether they belong in the set at all only a
person knows. Which of two labels is right as well, so a picture in two classes is in none.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence

from shards.quarantine import Code, Entry
from shards.sources.listing import Source

SHOWN = 3


def in_two_classes(images: Sequence[Source], pictures: Sequence[Hashable]) -> dict[int, Entry]:
    """An entry for each image whose picture is there under another label too, by its index.

    `pictures` are digests of their pixels.
    """
    found = {}
    for group in _groups(pictures):
        by_label = {images[i].label: images[i].name for i in reversed(group)}
        for image, i in ((images[i], i) for i in group if len(by_label) > 1):
            others = [f"{name!r} ({label})" for label, name in by_label.items() if label != image.label]
            detail = (
                f"in class {image.label}, but the same picture as {' and '.join(others[:SHOWN])}: remove "
                "one, or correct its label"
            )
            found[i] = Entry(image.number, image.name, Code.CONFLICTING_LABEL, detail)
    return found


def copy_notes(
    names: Sequence[str],
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
    two_patients = sum(len({patients[i] for i in group if patients[i]}) > 1 for group in groups)
    if two_patients:
        lines.append(f"{two_patients} pictures are of more than one patient, who stay in one split")
    return lines


def _groups(digests: Sequence[Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        found[digest].append(index)
    return list(found.values())
