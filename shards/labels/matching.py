"""Which image file is which image of a label file, and what of either has no counterpart."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from pathlib import Path

from shards.errors import UserError
from shards.labels.labels import Labels
from shards.labels.paths import is_outside, match_paths
from shards.quarantine import Code, Entry
from shards.sources.listing import Listing, Source, image_files, one_form


def list_with_labels(folders: list[Path], labels: Labels) -> Listing:
    """Images under the SOURCE folders whose classes (and patients) are in the label file.

    Raises UserError when two files are the same image, or a class that the label file has got no image.
    """
    listing = Listing(has_patients=labels.has_patients)
    files = [
        (number, name, path)
        for number, folder in enumerate(folders)
        for name, path in image_files(folder, number, listing)
    ]
    matches = _match(folders, labels, [name for _, name, _ in files], listing)
    found: dict[str, str] = {}
    for number, name, path in files:
        rows = matches.get(name, [labels.key(name)])
        key = rows[0]
        image = labels.images.get(key)
        if image is None:
            listing.quarantine.append(Entry(number, name, Code.NO_LABEL, f"no row in {labels.file.name}"))
            continue
        if key in found and not labels.many_files:
            raise UserError(
                f"{found[key]} and {path} are the same image for {labels.file}: "
                "give a SOURCE with one of them"
            )
        found |= dict.fromkeys(rows, path)
        if conflict := _conflict(labels, rows):
            listing.quarantine.append(Entry(number, name, Code.CONFLICTING_LABEL, conflict))
        elif image.label is None:
            listing.left_out += 1
        else:
            listing.images.append(Source(number, name, path, image.label, image.patient))
    _add_missing(folders, labels, listing, found.keys())
    _check_classes(folders, labels, listing)
    return listing


def _match(folders: list[Path], labels: Labels, names: list[str], listing: Listing) -> dict[str, list[str]]:
    """The paths in the label file by the file that they are, where keys are paths; says what is unusual."""
    matches: dict[str, list[str]] = defaultdict(list)
    if labels.by_path:
        matched, listing.notes = match_paths(labels.images, names, folders)
        for row, name in matched.items():
            matches[name].append(row)
    return matches


def _conflict(labels: Labels, rows: list[str]) -> str:
    """How the rows of a file, which may name it by several paths, disagree; empty when they agree."""
    images = [labels.images[row] for row in rows]
    said = sorted({(image.label or "", image.patient or "") for image in images})
    within = next((image.conflict for image in images if image.conflict), "")
    return within or (f"rows disagree: {said}" if len(said) > 1 else "")


def summary(labels: Labels, listing: Listing) -> list[str]:
    """Two lines: how many images of which classes the label file has, and how many of them have a file."""
    named, there = labels.counts(), Counter(image.label for image in listing.images)
    codes = Counter(entry.code for entry in listing.quarantine)
    settings = ", ".join(f"{name} {value}" for name, value in labels.settings.items())
    contradictory = sum(bool(image.conflict) for image in labels.images.values())
    left_out = labels.left_out()
    return [
        f"{labels.file} ({settings}): {len(labels.images)} images: {_listed(named)}"
        + "".join(f"; {reason}, left out: {count}" for reason, count in sorted(left_out.items()))
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
    if is_outside(name):
        detail = "the label file names a path outside the source folder: give its folder as SOURCE"
        return Entry(0, name, Code.OUTSIDE_SOURCE, detail)
    if any(os.path.exists(folder / name) for folder in folders):
        return Entry(0, name, Code.NOT_AN_IMAGE, "the label file names a file that is not PNG, JPEG or DICOM")
    return Entry(0, name, Code.MISSING_FILE, "named by the label file, not in any source folder")


def _check_classes(folders: list[Path], labels: Labels, listing: Listing) -> None:
    where = ", ".join(map(str, folders))
    if not labels.images:
        raise UserError(f"{labels.file} has no rows below the names of its columns")
    if not listing.images:
        example = next(iter(labels.images), "") + labels.suffix
        raise UserError(
            f"no image under {where} has a row in {labels.file}, whose first image is {example!r}: "
            f"{_cure(folders, labels)}"
        )
    there = {image.label for image in listing.images}
    for name in labels.classes:
        if name not in there:
            raise UserError(
                f"no image of class {name} is under {where}: {labels.file} names {labels.counts()[name]}"
                f"{_first_of(name, labels)}"
            )


def _first_of(label: str, labels: Labels) -> str:
    found = next((key for key, image in labels.images.items() if image.label == label), None)
    return f", such as {found!r}" if found else ""


def _loose(name: str) -> str:
    """A path without what tables lose: the ending, upper case, zeros before a number."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", os.path.splitext(one_form(name))[0].lower())


def _cure(folders: list[Path], labels: Labels) -> str:
    """What to do when no file has a row: where one lies deeper than its path says, that folder as SOURCE."""
    first = next(iter(labels.images), "")
    for folder in folders:
        for name, _ in image_files(folder, 0, Listing()):
            if labels.by_path and name.endswith(f"/{first}"):
                return f"paths are relative to SOURCE, so give {folder / name.removesuffix(f'/{first}')}"
            if labels.by_path and _loose(name) == _loose(first):
                return f"{name!r} is there: write paths as files are called, with zeros, case and ending"
    return "check SOURCE and the label file" + ("; paths are relative to SOURCE" if labels.by_path else "")
