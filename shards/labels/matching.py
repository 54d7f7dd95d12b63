"""Which image file is which image of a label file, and what of either has no counterpart."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from shards.errors import UserError
from shards.labels.labels import Labels
from shards.quarantine import Code, Entry
from shards.sources import Listing, Source, image_files


def list_with_labels(folders: list[Path], labels: Labels) -> Listing:
    """Images under the SOURCE folders whose classes (and patients) are in the label file.

    Raises UserError when two files are the same image, or a class that the label file has got no image.
    """
    listing = Listing(has_patients=labels.has_patients)
    found: dict[str, str] = {}
    for number, folder in enumerate(folders):
        for name, path in image_files(folder, number, listing):
            key = labels.key(name)
            image = labels.images.get(key)
            if image is None:
                entry = Entry(number, name, Code.NO_LABEL, f"no row in {labels.file.name}")
                listing.quarantine.append(entry)
                continue
            if key in found:
                raise UserError(
                    f"{found[key]} and {path} are the same image for {labels.file}: "
                    "give a SOURCE with one of them"
                )
            found[key] = path
            if image.conflict:
                listing.quarantine.append(Entry(number, name, Code.CONFLICTING_LABEL, image.conflict))
            elif image.label is None:
                listing.left_out += 1
            else:
                listing.images.append(Source(number, name, path, image.label, image.patient))
    _add_missing(folders, labels, listing, found.keys())
    _check_classes(folders, labels, listing)
    return listing


def summary(labels: Labels, listing: Listing) -> list[str]:
    """Two lines: how many images of which classes the label file has, and how many of them have a file."""
    named, there = labels.counts(), Counter(image.label for image in listing.images)
    codes = Counter(entry.code for entry in listing.quarantine)
    settings = ", ".join(f"{name} {value}" for name, value in labels.settings.items())
    contradictory = sum(bool(image.conflict) for image in labels.images.values())
    left_out = len(labels.images) - named.total() - contradictory
    return [
        f"{labels.file} ({settings}): {len(labels.images)} images: {_listed(named)}"
        + (f"; only other findings, left out: {left_out}" if left_out else "")
        + (f"; contradictory rows: {contradictory}" if contradictory else ""),
        f"in the source folders: {_listed(there)}"
        + (f"; left out: {listing.left_out}" if left_out else "")
        + f"; missing: {codes[Code.MISSING_FILE]}; files without a row: {codes[Code.NO_LABEL]}",
    ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in sorted(counts, reverse=True))


def _add_missing(folders: list[Path], labels: Labels, listing: Listing, found: Collection[str]) -> None:
    """An entry for each image that has a class, or a conflict about it, and no file."""
    set_aside = {labels.key(entry.path) for entry in listing.quarantine}
    for key, image in labels.images.items():
        if key not in found and key not in set_aside and (image.label is not None or image.conflict):
            listing.quarantine.append(_entry_without_image(folders, key + labels.suffix))


def _entry_without_image(folders: list[Path], name: str) -> Entry:
    """Why an image of the label file has no file."""
    if os.path.isabs(name) or name.split("/")[0] == "..":
        return Entry(0, name, Code.OUTSIDE_SOURCE, "the label file names a path outside the source folder")
    if any(os.path.exists(folder / name) for folder in folders):
        return Entry(0, name, Code.NOT_AN_IMAGE, "the label file names a file that is not PNG, JPEG or DICOM")
    return Entry(0, name, Code.MISSING_FILE, "named by the label file, not in any source folder")


def _check_classes(folders: list[Path], labels: Labels, listing: Listing) -> None:
    where = ", ".join(map(str, folders))
    if not listing.images:
        example = next(iter(labels.images), "") + labels.suffix
        raise UserError(
            f"no image under {where} has a row in {labels.file}, whose first image is {example!r}: "
            "check SOURCE and the label file"
        )
    there = {image.label for image in listing.images}
    for name in labels.classes:
        if name not in there:
            raise UserError(
                f"no image of class {name} is under {where}: {labels.file} names {labels.counts()[name]}"
            )
