"""What a source says of people: names, ids, dates, UIDs, file names, cells of label files.

A value is a sequence of words (letters and digits, case-folded), so that DOE^JANE, doe_jane and Doe Jane are
the same. Values of fewer than FEWEST letters and digits can't be distinguished from others and are left out.
"""

import csv
import gzip
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shards.limits import open_plain
from shards.quarantine import Quarantined
from shards.sources.listing import HEAD_BYTES, starts_like_dicom

FEWEST = 4
MOST_TEXT_BYTES = 256 * 2**20  # of a label file
MOST_VALUE = 4096  # characters of a value that are looked for
WORD = re.compile(r"[^\W_]+")
NAME = "PN"
OF_PEOPLE = {NAME, "LO", "SH", "LT", "ST", "UT", "UC", "UI", "DA", "DT", "TM", "AE", "AS"}
"""The value representations of DICOM (PS3.5, 6.2) in which names, ids, dates and free text are."""
OF_THE_STANDARD = "1.2.840.10008."  # UIDs of classes and syntaxes
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PERSONAL = {"PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "OtherPatientNames"}
"""Looked for even where a class has that name."""

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """The words of a text, case-folded."""
    return tuple(WORD.findall(text.casefold()))


@dataclass
class Identifiers:
    """Values to look for, each with what it is, and what was left out."""

    kinds: dict[Words, str] = field(default_factory=dict)
    files: int = 0
    short: int = 0
    unread: int = 0

    def add(self, text: str, kind: str) -> None:
        """Take up a value; a personal kind prevails."""
        words = words_of(text[:MOST_VALUE])
        if sum(map(len, words)) < FEWEST:
            self.short += bool(words)
        elif kind in PERSONAL or words not in self.kinds:
            self.kinds[words] = kind

    def without(self, written: Iterable[Words], on_purpose: Iterable[str]) -> tuple["Matcher", int]:
        """What finds the values, except those in texts that the builder itself writes; how many those are.

        `on_purpose`: names of classes and findings, which are in the shards because the user chose them.
        """
        texts = [f" {' '.join(words)} " for words in written]
        chosen = {words_of(name) for name in on_purpose}
        kept = {}
        for words, kind in self.kinds.items():
            as_text = f" {' '.join(words)} "
            if words in chosen and kind not in PERSONAL:
                continue
            if not any(as_text in text for text in texts):
                kept[words] = kind
        return Matcher(kept), len(self.kinds) - len(kept)


class Matcher:
    """Finds values in texts, in time that does not grow with their number."""

    def __init__(self, kinds: dict[Words, str]) -> None:
        self.kinds = kinds
        self._by_longest: dict[str, list[tuple[int, Words]]] = {}
        for words in kinds:
            position = max(range(len(words)), key=lambda number: len(words[number]))
            self._by_longest.setdefault(words[position], []).append((position, words))

    def find(self, text: str, fewest_digits: int = FEWEST) -> Iterator[Words]:
        """The values in a text; of those that are digits only, those of at least `fewest_digits`."""
        found = words_of(text)
        for number, word in enumerate(found):
            for position, words in self._by_longest.get(word, ()):
                start = number - position
                if start >= 0 and found[start : start + len(words)] == words:
                    joined = "".join(words)
                    if not joined.isdigit() or len(joined) >= fewest_digits:
                        yield words


def collect(sources: list[Path]) -> Identifiers:
    """All values of folders and label files."""
    result = Identifiers()
    for source in sources:
        if source.is_dir():
            for folder, _, files in os.walk(source):
                for name in sorted(files):
                    _take_file(Path(folder) / name, result, source)
        else:
            _take_file(source, result, source.parent)
    return result


def _take_file(path: Path, result: Identifiers, root: Path) -> None:
    result.files += 1
    for part in path.relative_to(root).parts[:-1]:
        result.add(part, "the name of a folder")
    stem = path.name.partition(".")[0] or path.name
    result.add(path.name, "the name of a file")
    result.add(stem, "the name of a file")
    try:
        if path.name.lower().endswith(TABLES):
            _take_table(path, result)
            return
        with open_plain(str(path)) as file:
            head = file.read(HEAD_BYTES)
        if starts_like_dicom(head):
            _take_dicom(path, result)
        elif head.startswith((b"\x89PNG", b"\xff\xd8")):
            _take_picture(path, result)
    except Quarantined:
        result.unread += 1
    except Exception:  # noqa: BLE001  a broken file can make its reader raise nearly anything
        result.unread += 1


def _take_table(path: Path, result: Identifiers) -> None:
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_TEXT_BYTES)
    rows = csv.reader(io.StringIO(decoded(data)), delimiter=_delimiter(data))
    header = next(rows, [])
    for row in rows:
        for column, cell in enumerate(row):
            name = header[column] if column < len(header) else str(column + 1)
            result.add(cell, f"a cell of column {name[:40]!r}")
            if "/" in cell or "\\" in cell:
                stem = re.split(r"[/\\]", cell)[-1].partition(".")[0]
                result.add(stem, f"a cell of column {name[:40]!r}")


def _delimiter(data: bytes) -> str:
    first = decoded(data[:65536]).partition("\n")[0]
    return max(",;\t", key=first.count)


def decoded(data: bytes) -> str:
    """Text in the encodings that label files come in; never fails."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _take_dicom(path: Path, result: Identifiers) -> None:
    from pydicom import dcmread
    from pydicom.multival import MultiValue

    dataset = dcmread(path, stop_before_pixels=True, force=True)
    for element in (*getattr(dataset, "file_meta", ()), *dataset.iterall()):
        if element.VR not in (*OF_PEOPLE, "UN") or element.value is None:
            continue
        kind = element.keyword or str(element.tag)
        for value in element.value if isinstance(element.value, list | MultiValue) else [element.value]:
            text = value[:MOST_VALUE].decode("latin-1") if isinstance(value, bytes) else str(value)
            if text.startswith(OF_THE_STANDARD) or (element.VR == "UN" and not text.isprintable()):
                continue
            result.add(text, kind)
            for extra in _other_forms(text, element.VR):
                result.add(extra, kind)


def _other_forms(text: str, kind: str) -> list[str]:
    """The words of a name, and the name turned around; a date in the forms in which people write it."""
    if kind == NAME:
        parts = words_of(text)
        return [
            *parts,
            " ".join(reversed(parts)),
            *(" ".join(pair) for pair in zip(parts[1:], parts, strict=False)),
        ]
    if kind in ("DA", "DT") and re.match(r"\d{8}", text):
        year, month, day = text[:4], text[4:6], text[6:8]
        orders = ((year, month, day), (day, month, year), (month, day, year))
        return [text[:8], *("-".join(order) for order in orders)]
    return []


def _take_picture(path: Path, result: Identifiers) -> None:
    from PIL import Image

    with Image.open(path) as image:
        texts = [*image.info.items(), *image.getexif().items()]
    for name, value in texts:
        if isinstance(value, str):
            result.add(value, f"the picture's {name}")
