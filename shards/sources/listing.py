"""Which files of the source folders are images, and the class of each by its folder: `SOURCE/ClassName/**`.

With --labels, a label file gives the classes instead (see `labels`). A reader for another layout is one more
function that returns a `Listing`.
"""

import os
import re
import stat
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from shards.errors import UserError
from shards.quarantine import Code, Entry
from shards.sources.trees import Place, read_tree

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"})
OTHER_PICTURES = frozenset({".bmp", ".gif", ".heic", ".jp2", ".nii", ".npy", ".tif", ".tiff", ".webp"})
DIRECTORY = "DICOMDIR"  # the index of a medium, which holds no picture (PS3.10, 8.6)
DICOM_MAGIC_AT, DICOM_MAGIC = 128, b"DICM"  # DICOM PS3.10, section 7.1
HEAD_BYTES = 1024  # enough to tell DICOM by
FIRST_ELEMENTS = 3  # that a data set without preamble is known by
FILE_META = 2  # the group
FIRST_GROUPS = (FILE_META, 8)
LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR"})  # PS3.5, 7.1.2
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


@dataclass(frozen=True, slots=True)
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
    """What the sources hold: images with a class, entries already set aside, and how many other files.

    `left_out` counts the images that the label file knows, but that are of none of the classes asked for.
    `written` counts images by the class as the folder (or a plain label file) writes it.
    `unread` counts those other files that may hold pictures, by their ending. `notes` are what to say of how
    names were read.
    """

    images: list[Source] = field(default_factory=list)
    quarantine: list[Entry] = field(default_factory=list)
    other_files: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    written: Counter[str] = field(default_factory=Counter)
    has_patients: bool = False
    notes: list[str] = field(default_factory=list)

    def classes(self) -> list[str]:
        """The classes in label order: `no_finding` before `finding` for these two, else sorted."""
        found = sorted({image.label for image in self.images})
        return ["no_finding", "finding"] if found == ["finding", "no_finding"] else found


WHOLE_NUMBER = re.compile(r"^([+-]?\d+)[.,]0*$")
UNCLASSIFIED = "image"
"""The class of all images of a SOURCE without class folders."""
MOST_BELOW = 10  # folders in the only class folder that may be the classes that were meant


def class_name(text: str) -> str:
    """A class as it is written in the manifest: lower case, spaces and dashes as `_`; 1 for 1.0 and 1,0.

    An accent is part of its letter (NFC), whichever way a file system writes it.
    """
    text = unicodedata.normalize("NFC", text.strip())
    name = WHOLE_NUMBER.sub(r"\1", text).lower().replace(" ", "_").replace("-", "_")
    if not name.isprintable():
        raise UserError(f"the class name {text[:60]!r} has characters that can't be printed: rename it")
    return name


def one_form(name: str) -> str:
    """A path with slashes for backslashes and accented letters as one character (NFC)."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def list_class_folders(folders: list[Path], one_class: bool = False) -> Listing:
    """Images under `SOURCE/ClassName/`, at any depth, or in a known set's folders (see `trees`).

    Images beside the class folders have no label. Backslashes in names, as an archive from Windows may leave
    them, are folders.

    Where no SOURCE has a folder with images, or `one_class` is given, all are of one class, `UNCLASSIFIED`.
    """
    listing = Listing()
    beside: list[Source] = []
    for number, folder in enumerate(folders):
        files = list(image_files(folder, number, listing))
        plain = {name: name.replace("\\", "/") for name, _ in files}
        places, notes = read_tree(list(plain.values()), UNCLASSIFIED)
        listing.notes += notes + _name_notes(folder, plain, bool(places) or one_class)
        for name, path in files:
            top, _, rest = plain[name].partition("/")
            place = places.get(plain[name], Place(top, None))
            if place.label is None:
                listing.other_files += 1
            elif one_class or not rest or place.label == "":
                beside.append(Source(number, name, path, UNCLASSIFIED, place.patient))
            else:
                listing.written[place.label] += 1
                source = Source(number, name, path, class_name(place.label), place.patient)
                listing.images.append(source)
                listing.has_patients |= place.patient is not None
    if listing.images:
        listing.quarantine += [
            Entry(image.number, image.name, Code.NO_LABEL, "not in a class folder") for image in beside
        ]
    else:
        listing.images = beside
        listing.has_patients = any(image.patient for image in beside)
        if folders_of := {os.path.dirname(image.path) for image in beside} if one_class else set():
            listing.notes.append(
                f"{len(beside)} images in {len(folders_of)} folders are of one class, {UNCLASSIFIED}: their "
                "folders are read neither as classes nor as patients"
            )
    if not listing.images:
        unread = (
            f" ({listing.quarantine[0].path}: {listing.quarantine[0].detail})" if listing.quarantine else ""
        )
        raise UserError(
            f"no images in {', '.join(map(str, folders))}{unread}: put them there, or in SOURCE/ClassName/ "
            "where they have classes, or name their classes with --labels FILE.csv"
        )
    return listing


def _name_notes(folder: Path, plain: dict[str, str], known_tree: bool) -> list[str]:
    """What to say of backslashes in names, and of one class folder that holds folders."""
    notes = []
    if backslashes := sum(name != path for name, path in plain.items()):
        notes.append(
            f"{backslashes} file names have backslashes, as an archive from Windows that was unpacked here: "
            "they are taken as folders"
        )
    parts = [path.split("/") for path in plain.values()]
    tops = {folders[0] for folders in parts if len(folders) > 1}
    below = {folders[1] for folders in parts if len(folders) > 2}
    if len(tops) == 1 and not known_tree and 2 <= len(below) <= MOST_BELOW:
        (top,) = tops
        notes.append(
            f"{top!r} is the only folder, so all images in it are of one class; it holds {len(below)} "
            f"folders: if they are the classes, give {folder / top} as SOURCE"
        )
    return notes


def check_apart(folders: list[Path]) -> None:
    """Refuse SOURCE folders of which one is or holds another, whose images would be there twice."""
    real = [os.path.realpath(folder) for folder in folders]
    for (outer, outside), (inner, inside) in permutations(zip(folders, real, strict=True), 2):
        if outside == inside:
            raise UserError(f"SOURCE {inner} is given twice: its images would be there twice")
        if os.path.commonpath([outside, inside]) == outside:
            raise UserError(f"SOURCE {inner} is in SOURCE {outer}: its images would be there twice")


def image_files(folder: Path, number: int, listing: Listing) -> Iterator[tuple[str, str]]:
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
                    _count_other(name, listing)
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


def _count_other(name: str, listing: Listing) -> None:
    listing.other_files += 1
    ending = os.path.splitext(name)[1].lower()
    if ending in ARCHIVES | OTHER_PICTURES:
        listing.unread[ending] += 1


def _is_image(path: str) -> bool:
    """Whether a file claims to be an image: by its ending or DICOM's magic; opens no device and no pipe."""
    if os.path.basename(path).upper() == DIRECTORY:
        return False
    if os.path.splitext(path)[1].lower() in RASTER_SUFFIXES | DICOM_SUFFIXES:
        return True
    if not stat.S_ISREG(os.stat(path).st_mode):
        return False
    with open(path, "rb") as file:
        return starts_like_dicom(file.read(HEAD_BYTES))


def starts_like_dicom(head: bytes) -> bool:
    """Whether the first HEAD_BYTES of a file are those of DICOM: a preamble, or a data set without one."""
    if head[DICOM_MAGIC_AT : DICOM_MAGIC_AT + len(DICOM_MAGIC)] == DICOM_MAGIC:
        return True
    return any(
        _starts_with_elements(head, order, explicit)
        for order, explicit in (("<", True), ("<", False), (">", True))
    )


def _starts_with_elements(head: bytes, order: str, explicit: bool) -> bool:
    """Whether data elements in ascending order start `head`, in group 2 or 8 (PS3.5, 7.1)."""
    position, last = 0, (0, 0)
    for _ in range(FIRST_ELEMENTS):
        element = head[position : position + 12]
        if len(element) < 8:
            return False
        tag = struct.unpack_from(f"{order}HH", element)
        in_meta = tag[0] == FILE_META  # explicit whatever follows it
        vr = element[4:6]
        if tag <= last or tag[0] not in FIRST_GROUPS:
            return False
        if not explicit and not in_meta:
            length, size = struct.unpack_from(f"{order}I", element, 4)[0], 8
        elif vr in SHORT_VRS:
            length, size = struct.unpack_from(f"{order}H", element, 6)[0], 8
        elif vr in LONG_VRS and len(element) == 12:
            length, size = struct.unpack_from(f"{order}I", element, 8)[0], 12
        else:
            return False
        if length >= HEAD_BYTES:  # the first elements are short
            return False
        position, last = position + size + length, tag
    return True
