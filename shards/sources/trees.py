"""Folder trees of public sets, beyond `SOURCE/ClassName/**`: what their folders and file names mean.

- `[SET/]train|val|test/ClassName/**`, as Kermany's chest X-rays are: the class is below the split;
- `[SET/]ClassName/images/**` beside `ClassName/masks/**`, as the COVID-19 Radiography Database is: masks
  are no X-rays;
- both, as COVID-QU-Ex is.

A set whose file names tell the patient is a line in NAMES.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

SPLIT_FOLDERS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
IMAGE_FOLDERS = frozenset(("images", "image"))
MASK_FOLDERS = frozenset(("masks", "mask", "lung masks", "infection masks"))

NAMES = {
    "Kermany": re.compile(
        r"^(person\d+)_(?:bacteria|virus)_\d+\.\w+$|^((?:NORMAL2-)?IM-\d+)-\d+(?:-\d+)?\.\w+$"
    ),
}
"""Set -> what all its file names match; the group that matched is the patient."""


@dataclass(frozen=True)
class Place:
    """What a file's folders and name say: its class, and its patient if they tell it.

    A label of None: it is a mask; an empty one: it is beside the folders of classes.
    """

    label: str | None
    patient: str | None


def read_tree(names: Sequence[str], unclassified: str) -> tuple[dict[str, Place], list[str]]:
    """What the posix `names` below a SOURCE mean, and what to say of it; nothing where it is no such tree.

    Files directly in SOURCE don't count. `unclassified` is the class of images directly in folders of splits.
    """
    parts = {name: name.split("/") for name in names if "/" in name}
    if not parts:
        return {}, []
    top = _depth_of_splits_or_classes(list(parts.values()))
    by_split = all(folders[top].lower() in SPLIT_FOLDERS for folders in parts.values())
    flat = by_split and all(len(folders) == top + 2 for folders in parts.values())
    at = top + by_split
    below = {folders[at + 1].lower() for folders in parts.values() if len(folders) > at + 2}
    with_masks = not flat and bool(below & IMAGE_FOLDERS) and bool(below & MASK_FOLDERS)
    if not by_split and not with_masks or (flat and top):
        return {}, []
    places = {}
    for name, folders in parts.items():
        is_mask = with_masks and len(folders) > at + 2 and folders[at + 1].lower() in MASK_FOLDERS
        label = unclassified if flat else folders[at] if len(folders) > at + 1 else ""
        places[name] = Place(None if is_mask else label, None)
    return _with_patients(places, _notes(places, parts, top, by_split))


def _depth_of_splits_or_classes(parts: Sequence[Sequence[str]]) -> int:
    """How many folders all names share, before one of splits and with two folders below at least."""
    top = 0
    while (
        len({folders[top] for folders in parts}) == 1
        and parts[0][top].lower() not in SPLIT_FOLDERS
        and all(len(folders) > top + 3 for folders in parts)
    ):
        top += 1
    return top


def _notes(places: dict[str, Place], parts: dict[str, list[str]], top: int, by_split: bool) -> list[str]:
    notes = []
    if by_split:
        splits = ", ".join(sorted({folders[top] for folders in parts.values()}))
        notes.append(
            f"the folders {splits} are no classes: taken as one set, which --split divides by patient"
        )
    if masks := sum(place.label is None for place in places.values()):
        notes.append(f"{masks} files in folders of masks are no X-rays: left out")
    return notes


def _with_patients(places: dict[str, Place], notes: list[str]) -> tuple[dict[str, Place], list[str]]:
    """Adds the patients, where all file names are those of a set in NAMES."""
    for known, pattern in NAMES.items():
        found = {name: pattern.match(name.rpartition("/")[2]) for name in places}
        if all(found.values()):
            patients = {
                name: next(group for group in match.groups() if group)
                for name, match in found.items()
                if match
            }
            note = f"the file names are those of {known}'s set: their patients are taken from them"
            return {name: Place(place.label, patients[name]) for name, place in places.items()}, [
                *notes,
                note,
            ]
    return places, notes
