"""Which files of the source folders are images, and the class of each by its folder: `SOURCE/ClassName/**`.

With --labels, a label file gives the classes instead (see `labels`). A reader for another layout is one more
function that returns a `Listing`.
"""

import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from shards.errors import UserError
from shards.quarantine import Code, Entry
from shards.trees import Place, read_tree

RASTER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
DICOM_MAGIC_AT, DICOM_MAGIC = 128, b"DICM"  # DICOM PS3.10, section 7.1
HEAD_BYTES = 1024  # enough to tell DICOM by
FIRST_ELEMENTS = 3  # that a data set without preamble is known by
FILE_META = 2  # the group
FIRST_GROUPS = (FILE_META, 8)
LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR"})  # PS3.5, 7.1.2
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


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
    """What the sources hold: images with a class, entries already set aside, and how many other files.

    `left_out` counts the images that the label file knows, but that are of none of the classes asked for.
    `written` counts images by the class as the folder (or a plain label file) writes it.
    `notes` are what to say of how names were read.
    """

    images: list[Source] = field(default_factory=list)
    quarantine: list[Entry] = field(default_factory=list)
    other_files: int = 0
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


def class_name(text: str) -> str:
    """A class as it is written in the manifest: lower case, spaces and dashes as `_`; 1 for 1.0 and 1,0."""
    name = WHOLE_NUMBER.sub(r"\1", text.strip()).lower().replace(" ", "_").replace("-", "_")
    if not name.isprintable():
        raise UserError(f"the class name {text[:60]!r} has characters that can't be printed: rename it")
    return name


def list_class_folders(folders: list[Path]) -> Listing:
    """Images under `SOURCE/ClassName/`, at any depth, or in a known set's folders (see `trees`).

    Images beside the class folders have no label.

    Where no SOURCE has a folder with images, all of them are of one class, `UNCLASSIFIED`.
    """
    listing = Listing()
    beside: list[Source] = []
    for number, folder in enumerate(folders):
        files = list(image_files(folder, number, listing))
        places, notes = read_tree([name for name, _ in files], UNCLASSIFIED)
        listing.notes += notes
        for name, path in files:
            top, _, rest = name.partition("/")
            place = places.get(name, Place(top, None))
            if not rest or place.label == "":
                beside.append(Source(number, name, path, UNCLASSIFIED))
            elif place.label is None:
                listing.other_files += 1
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
    if not listing.images:
        raise UserError(
            f"no images in {', '.join(map(str, folders))}: put them there, or in SOURCE/ClassName/ where "
            "they have classes, or name their classes with --labels FILE.csv"
        )
    return listing


def check_apart(folders: list[Path]) -> None:
    """Refuse SOURCE folders of which one is or holds another, whose images would be there twice."""
    real = [os.path.realpath(folder) for folder in folders]
    for (outer, outside), (inner, inside) in permutations(zip(folders, real, strict=True), 2):
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
