"""Which images are set aside and why: the closed set of codes, and the list written beside the shards.

File names and headers can hold patient data, so names go only into the list (mode 0600, outside the shard
directory); the manifest holds the counts by code.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shards.files import replace_file


class Code(StrEnum):
    """Every reason for which an image is set aside."""

    NO_LABEL = "no_label"  # no class folder, or no row in the label file
    CONFLICTING_LABEL = "conflicting_label"  # two rows of the label file, or two copies of it, disagree
    MISSING_FILE = "missing_file"  # the label file names a file that is not there
    OUTSIDE_SOURCE = "outside_source"  # a link or a path leads out of the source folder
    NOT_AN_IMAGE = "not_an_image"  # neither PNG, JPEG nor DICOM by its content
    UNREADABLE = "unreadable"  # the system refuses to read it, or it is no plain file
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    NO_PIXELS = "no_pixels"
    MULTI_FRAME = "multi_frame"
    NOT_GRAYSCALE = "not_grayscale"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PIXELS = (
        "unsupported_pixels"  # a bit depth or lookup function outside DICOM's grayscale pipeline
    )
    TOO_LARGE = "too_large"
    TOO_SMALL = "too_small"
    CONSTANT = "constant"  # every pixel has the same value once rendered
    NOT_FINITE = "not_finite"
    SYNTHETIC = "synthetic"  # it says that a generative model drew it
    LATERAL = "lateral"  # with --refuse: the header says that the view is lateral
    NOT_CHEST = "not_chest"  # with --refuse: the header names another part of the body
    BURNED_IN = "burned_in"  # with --refuse: BurnedInAnnotation is YES
    TWO_SPLITS = "two_splits"  # append: its patient or its near-duplicates are in two splits of the set
    CRASHED = "crashed"  # the process that read it was killed, crashed or ran out of memory, more than once


class Quarantined(Exception):
    """An image can't be used: `code` says why, `detail` adds what a person needs to mend it."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """One line of the quarantine list. `source` is the number of the SOURCE on the command line."""

    source: int
    path: str
    code: Code
    detail: str


def counts_by_code(entries: Iterable[Entry]) -> dict[str, int]:
    """Entries per code, codes in alphabetical order, codes without an entry left out."""
    return dict(sorted(Counter(str(entry.code) for entry in entries).items()))


def write_list(path: Path, entries: Iterable[Entry]) -> None:
    """Write the list as CSV (source, path, code, detail), mode 0600, replacing `path` at once.

    Files that are missing come last: of a data set that is there in part they can be thousands.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["source", "path", "code", "detail"])
    for entry in sorted(entries, key=lambda entry: (entry.code == Code.MISSING_FILE, entry)):
        writer.writerow([entry.source, entry.path, entry.code, " ".join(entry.detail.split())])
    replace_file(path, text.getvalue().encode("utf-8", "backslashreplace"), mode=0o600)
