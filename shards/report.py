"""What `build` prints: the label file against the folders, and at the end what was built and set aside."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shards.appending.held import Held
from shards.copies.equal import copy_notes
from shards.labels import Labels
from shards.labels.matching import summary
from shards.manifest import Manifest
from shards.quarantine import Code
from shards.scan import Scanned
from shards.sources.classes import check_classes, class_notes
from shards.sources.listing import Listing, Source, class_name

if TYPE_CHECKING:
    from shards.appending.newcomers import Newcomers

MOST_SHOWN = 3
PATIENTS = {
    "pattern": "by --patient-pattern",
    "csv": "by the label file",
    "name": "by the names of the files, which are a known set's",
    "dicom": "by DICOM's PatientID",
    "study": "by DICOM's studies (StudyInstanceUID), as PatientID names nobody",
    "file": "not known, each image is taken as one",
}


def report_labels(labels: Labels, listing: Listing) -> None:
    """Print what the label file names, what of it is there, and its warnings."""
    for line in summary(labels, listing):
        print(line)
    for line in labels.warnings + listing.notes:
        print(f"{labels.file}: {line}", file=sys.stderr)


def report_folders(listing: Listing) -> None:
    """Print how the folders were read, where it isn't simply as those of classes."""
    for line in listing.notes:
        print(line, file=sys.stderr)


def report_classes(written: Mapping[str, int], what: str, many_classes: bool) -> None:
    """Refuse names of classes that look like patients; print which are one class, or nearly."""
    if not many_classes:
        check_classes(written, what)
    for line in class_notes(written, {name: class_name(name) for name in written}):
        print(line, file=sys.stderr)


def report_copies(images: Sequence[tuple[Source, Scanned]], patients: Sequence[str | None]) -> None:
    """Print what `copy_notes` says of these images."""
    sources, scanned = zip(*images, strict=True)
    for line in copy_notes(
        [source.name if sources[-1].number == sources[0].number else source.path for source in sources],
        patients,
        [found.content for found in scanned],
        [found.pixels for found in scanned],
    ):
        print(line, file=sys.stderr)


def report_near_copies(
    images: Sequence[Source], patients: Sequence[str | None], linked: Sequence[tuple[int, int]]
) -> None:
    """Print how many pairs of images are near-duplicates, and by name those of two patients or classes."""
    if not linked:
        return
    print(f"{len(linked)} pairs of images are near-duplicates, each pair in one split", file=sys.stderr)
    for what, pairs in {
        "of two patients": [
            (a, b) for a, b in linked if patients[a] and patients[b] and patients[a] != patients[b]
        ],
        "in two classes, so look whether both labels are right": [
            (a, b) for a, b in linked if images[a].label != images[b].label
        ],
    }.items():
        if pairs:
            shown = "; ".join(f"{images[a].name!r} and {images[b].name!r}" for a, b in pairs[:MOST_SHOWN])
            more = "; ..." if len(pairs) > MOST_SHOWN else ""
            print(f"{len(pairs)} of these pairs are {what}: {shown}{more}", file=sys.stderr)


def report_newcomers(new: "Newcomers", near_held: Sequence[tuple[int, int]], held: Held) -> None:
    """Print what new images have to do with those of the set that they come to."""
    lines = []
    if new.held:
        lines.append(
            f"{new.held} images are in the set already, the same picture of the same patient: they are not "
            "packed again"
        )
    if new.renamed:
        lines.append(
            f"{new.renamed} images have the file name of another picture in the set: they are other images"
        )
    exact = {index for index, row in near_held if held.pixels[row] == new.images[index].scanned.pixels}
    if exact:
        shown = ", ".join(repr(new.images[index].source.name) for index in sorted(exact)[:MOST_SHOWN])
        lines.append(
            f"{len(exact)} images are exact copies of pictures of other patients in the set: {shown}"
        )
    if near_held:
        two = sum(bool(new.named[at]) and new.patients[at] != held.patient[row] for at, row in near_held)
        lines.append(
            f"{len({index for index, _ in near_held})} images are near-duplicates of images in the set, into "
            f"whose splits they go; {two} of these pairs are of two patients"
        )
    if torn := sum(entry.code == Code.TWO_SPLITS for entry in new.aside):
        lines.append(
            f"{torn} images are tied to two splits of the set, by patient or as near-duplicates: set aside"
        )
    for line in lines:
        print(line, file=sys.stderr)


def report_appended(out: Path, before: Manifest, after: Manifest | None) -> None:
    """Print what came to a set; None: nothing did."""
    if after is None:
        print(f"{out}: nothing to append, it is as it was")
        return
    came = {name: split.samples - before.splits[name].samples for name, split in after.splits.items()}
    print(f"{out}: {sum(came.values())} images more ({_counted(came)})")
    total = {name: split.samples for name, split in after.splits.items()}
    print(f"now {sum(total.values())} images ({_counted(total)})")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def report_synthetic(count: int) -> None:
    """Print that `count` images were set aside because they say that they are synthetic; nothing for 0."""
    if count:
        print(
            f"{count} synthetic images set aside: DICOM's SyntheticData or the PNG's title says that a model "
            "drew them\n"
            "they teach a generator nothing of patients; --allow-synthetic packs and counts them",
            file=sys.stderr,
        )


def report(
    result: Manifest, listing: Listing, quarantine_list: Path, out: Path, allowed: int, allowed_missing: float
) -> int:
    """Print what was built and what was set aside; returns the exit code.

    0 when at most `allowed` are set aside; the first `allowed_missing` (math.inf: all) of the images without
    a file don't count.
    """
    counts = _counted({name: split.samples for name, split in result.splits.items()})
    print(f"{out}: {sum(split.samples for split in result.splits.values())} images ({counts})")
    by_class = {
        name: sum(split.classes[label] for split in result.splits.values())
        for label, name in enumerate(result.classes)
    }
    print(f"classes: {_counted(by_class)}")
    build = result.build
    print(
        f"patients: {sum(split.patients for split in result.splits.values())}, "
        f"{PATIENTS[build['patients']]}; near-duplicates are kept in one split: "
        f"{build['duplicates']['clusters']} clusters"
    )
    if build["per_class"]:
        print(f"drawn: {build['per_class']} of each class; --seed {build['seed']} draws the same again")
    for name, split in result.splits.items():
        if not split.samples and build["split"][name]:
            print(f"the {name} split is empty: there are too few patients for --split", file=sys.stderr)
    if build["synthetic"]:
        print(f"synthetic images among them, by --allow-synthetic: {build['synthetic']}")
    if listing.other_files:
        print(f"files in the source folders that are neither PNG, JPEG nor DICOM: {listing.other_files}")
    if listing.unread:
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(listing.unread.items()))
        print(
            f"files that may hold images are not read ({endings}): unpack archives, save pictures as PNG",
            file=sys.stderr,
        )
    return report_quarantine(result.quarantine["codes"], quarantine_list, allowed, allowed_missing)


def report_quarantine(codes: Mapping[str, int], listed: Path, allowed: int, allowed_missing: float) -> int:
    """Print what was set aside; returns the exit code.

    Images without a file are counted apart: to build from a part of a data set may be on purpose.
    """
    missing = codes.get(Code.MISSING_FILE, 0)
    others = {code: count for code, count in codes.items() if code != Code.MISSING_FILE}
    if others:
        text = ", ".join(f"{code} {count}" for code, count in others.items())
        print(f"{sum(others.values())} set aside ({text}); the list: {listed}", file=sys.stderr)
    if missing:
        print(f"{missing} named by the label file have no file; last in the list: {listed}", file=sys.stderr)
    left = sum(others.values())
    if left + max(0, missing - allowed_missing) <= allowed:
        return 0
    cures = [f"--allow-quarantine {left}"] * (left > allowed)
    cures += ["--allow-missing all"] * (missing > allowed_missing)
    print(f"the rest is built; {' and '.join(cures)} accepts this", file=sys.stderr)
    return 1
