"""Which files are images, and which class and patient each is said to be: class folders or a label CSV.

Without --labels, `SOURCE/ClassName/**` gives the class of each image by its folder. With --labels, a CSV with
the columns `path,label[,patient]` does, `path` being relative to a SOURCE folder, with forward slashes. A
reader for another layout is one more function that returns a `Listing`.
"""

import csv
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shards.errors import UserError
from shards.quarantine import Code, Entry

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
DICOM_MAGIC_AT, DICOM_MAGIC = 128, b"DICM"  # DICOM PS3.10, section 7.1


@dataclass(frozen=True)
class Source:
    """One image to scan: `name` is its posix path relative to SOURCE number `number`."""

    number: int
    name: str
    path: str
    label: str
    patient: str | None = None

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """What the sample key is made of: it does not change when the source folder is moved."""
        return str(self.number).encode(), os.fsencode(self.name)


@dataclass
class Listing:
    """What the sources hold: images with a class, entries already set aside, and how many other files."""

    images: list[Source] = field(default_factory=list)
    quarantine: list[Entry] = field(default_factory=list)
    other_files: int = 0
    has_patients: bool = False

    def classes(self) -> list[str]:
        """The classes in label order: `no_finding` before `finding` for these two, else sorted."""
        found = sorted({image.label for image in self.images})
        return ["no_finding", "finding"] if found == ["finding", "no_finding"] else found


def class_name(text: str) -> str:
    """A class as it is written in the manifest: lower case, spaces and dashes as `_`."""
    name = text.strip().lower().replace(" ", "_").replace("-", "_")
    if not name.isprintable():
        raise UserError(f"the class name {text!r} has characters that can't be printed: rename it")
    return name


def list_class_folders(folders: list[Path]) -> Listing:
    """Images under `SOURCE/ClassName/`, at any depth; images beside the class folders have no label."""
    listing = Listing()
    for number, folder in enumerate(folders):
        for name, path in _image_files(folder, number, listing):
            top, _, rest = name.partition("/")
            if rest:
                listing.images.append(Source(number, name, path, class_name(top)))
            else:
                listing.quarantine.append(Entry(number, name, Code.NO_LABEL, "not in a class folder"))
    if not listing.images:
        raise UserError(
            f"no images in class folders of {', '.join(map(str, folders))}: "
            "put them in SOURCE/ClassName/, or name their classes with --labels FILE.csv"
        )
    return listing


def list_with_labels(folders: list[Path], labels: Path) -> Listing:
    """Images under the SOURCE folders whose classes (and patients) are in the CSV file `labels`."""
    rows, has_patients = read_labels(labels)
    listing = Listing(has_patients=has_patients)
    used: set[str] = set()
    for number, folder in enumerate(folders):
        for name, path in _image_files(folder, number, listing):
            stated = rows.get(name, set())
            if stated and name in used:
                raise UserError(f"{name} is in more than one SOURCE: {labels} can't tell which one it means")
            used.add(name)
            if len(stated) == 1:
                label, patient = next(iter(stated))
                listing.images.append(Source(number, name, path, label, patient))
            elif stated:
                listing.quarantine.append(Entry(number, name, Code.CONFLICTING_LABEL, f"{sorted(stated)}"))
            else:
                listing.quarantine.append(Entry(number, name, Code.NO_LABEL, f"no row in {labels.name}"))
    set_aside = {entry.path for entry in listing.quarantine}
    for name in rows.keys() - used - set_aside:
        listing.quarantine.append(_entry_without_image(folders, name))
    if not listing.images:
        raise UserError(
            f"no image under {', '.join(map(str, folders))} has a row in {labels}: check its `path` column"
        )
    return listing


def read_labels(path: Path) -> tuple[dict[str, set[tuple[str, str | None]]], bool]:
    """The rows of a label CSV: normalised path -> stated (class, patient) pairs; whether it has patients.

    Raises UserError for a file that is not UTF-8 CSV with the columns `path` and `label`, or an empty cell.
    """
    rows: dict[str, set[tuple[str, str | None]]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if not {"path", "label"} <= set(columns):
                raise UserError(
                    f"{path} needs the columns path,label[,patient]; it has {','.join(columns)[:200]!r}"
                )
            for row in reader:
                cells = [
                    (row[column] or "").strip()
                    for column in ("path", "label", "patient")
                    if column in columns
                ]
                if not all(cells):
                    raise UserError(
                        f"{path}, line {reader.line_num}: an empty cell; each row needs all of its columns"
                    )
                patient = cells[2] if len(cells) == 3 else None
                rows.setdefault(os.path.normpath(cells[0]), set()).add((class_name(cells[1]), patient))
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}") from None
    return rows, "patient" in columns


def _entry_without_image(folders: list[Path], name: str) -> Entry:
    """Why a row of the label file has no image."""
    if os.path.isabs(name) or name.split("/")[0] == "..":
        return Entry(0, name, Code.OUTSIDE_SOURCE, "the label file names a path outside the source folder")
    if "\0" not in name and any((folder / name).exists() for folder in folders):
        return Entry(0, name, Code.NOT_AN_IMAGE, "the label file names a file that is not PNG, JPEG or DICOM")
    return Entry(0, name, Code.MISSING_FILE, "named by the label file, not in any source folder")


def _image_files(folder: Path, number: int, listing: Listing) -> Iterator[tuple[str, str]]:
    """(posix name, path) of every image under `folder`, sorted; the quarantine gets what can't be visited."""
    if not folder.is_dir():
        raise UserError(f"SOURCE {folder} is not a folder")
    root = os.path.realpath(folder)

    def refused(error: OSError) -> None:
        name = os.path.relpath(error.filename, root)
        listing.quarantine.append(Entry(number, name, Code.UNREADABLE, error.strerror or "unreadable folder"))

    for where, subfolders, files in os.walk(root, onerror=refused):
        for name in subfolders:
            if os.path.islink(os.path.join(where, name)):
                relative = os.path.relpath(os.path.join(where, name), root)
                detail = "a link to a folder is not followed: give that folder as a SOURCE"
                listing.quarantine.append(Entry(number, relative, Code.OUTSIDE_SOURCE, detail))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(where, name)
            relative = os.path.relpath(path, root)
            try:
                if name.startswith(".") or not _is_image(path):
                    listing.other_files += 1
                elif os.path.commonpath([root, os.path.realpath(path)]) != root:
                    listing.quarantine.append(
                        Entry(number, relative, Code.OUTSIDE_SOURCE, "a link out of the source")
                    )
                else:
                    yield relative, path
            except OSError as error:
                listing.quarantine.append(
                    Entry(number, relative, Code.UNREADABLE, error.strerror or "unreadable")
                )


def _is_image(path: str) -> bool:
    """Whether a file claims to be an image: by its ending or DICOM's magic; opens no device and no pipe."""
    if os.path.splitext(path)[1].lower() in RASTER_SUFFIXES | DICOM_SUFFIXES:
        return True
    if not stat.S_ISREG(os.stat(path).st_mode):
        return False
    with open(path, "rb") as file:
        file.seek(DICOM_MAGIC_AT)
        return file.read(len(DICOM_MAGIC)) == DICOM_MAGIC
