"""What a scan finds for each image file: whether it is usable, its rendered PNG, digests and PatientID.

An image is decoded once: what is found goes with the small rendered PNG into the journal, from which `write`
packs it, and from which a build that was stopped resumes.
"""

import hashlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from shards import journal
from shards.content import pixel_digest
from shards.copies.fingerprint import fingerprint
from shards.limits import open_plain
from shards.pixels.render import encode_png, picture, render_file
from shards.pixels.stated import REFUSABLE
from shards.progress import Progress
from shards.quarantine import Code, Entry, Quarantined
from shards.sources.listing import Source
from shards.workers import Died, Workers

BATCH_BYTES = 4_000_000
BATCH_IMAGES = 16
TRIES_ALONE = 2
DARK_BITS = 15  # a class of 16-bit PNGs that ends at 2**15 - 1, or has fewer bits, was not scaled

Numbered = tuple[int, Source]
"""An image and its index among those that are scanned."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A usable image.

    `spool`, `offset`, `size`: where its record is in the journal, with its PNG and fingerprint. `content`:
    the SHA-256 of the source file (32 bytes); `pixels`: the digest of the picture. `peak`, `notes`: see
    `render.Rendered`.
    """

    spool: str
    offset: int
    size: int
    content: bytes
    pixels: str
    dicom_patient: str | None
    synthetic: bool
    peak: int | None = None
    notes: tuple[str, ...] = ()
    dicom_study: str | None = None

    @property
    def spooled(self) -> journal.Spooled:
        """Where its record is."""
        return journal.Spooled(self.spool, self.offset, self.size)


@dataclass(frozen=True)
class ScanOptions:
    """Of `build`: how pictures are rendered, and which images are refused for what their header says."""

    size: int
    bits: int
    allow_synthetic: bool = False
    fit: str = "pad"
    window: str = "auto"
    refuse: tuple[str, ...] = ()


def scan(
    workers: Workers, sources: Sequence[Source], folder: Path, options: ScanOptions, what: str
) -> list[Scanned | Entry]:
    """Scan in parallel; one result for each source, in order: Scanned, or its entry for the quarantine.

    What the journal in `folder` has already is taken from there. The images of a worker that died are scanned
    one by one, with no other worker beside; an image that ends them again is set aside as `crashed`.
    """
    results = _journalled(sources, folder)
    if results:
        print(f"{what}: {len(results)} of {len(sources)} images are known from before", file=sys.stderr)
    task = partial(_scan_batch, folder=folder, options=options)
    left = [number for number in range(len(sources)) if number not in results]
    deadly: list[Numbered] = []
    shared: dict[Any, Any] = {}
    with Progress(what, len(left), "images") as progress:
        for batch, found in workers.each(task, _batches(sources, left)):
            if isinstance(found, Died):
                deadly += batch
            else:
                for (number, _), item in zip(batch, found, strict=True):
                    results[number] = _sharing(item, shared)
                progress.advance(len(batch))
        for number, source in deadly:
            results[number] = _scan_alone(workers, task, source, folder)
            progress.advance()
    scanned = [results[number] for number in range(len(sources))]
    for line in warnings_of(sources, scanned):
        print(line, file=sys.stderr)
    return scanned


def _journalled(sources: Sequence[Source], folder: Path) -> dict[int, Scanned | Entry]:
    """What earlier scans found, by the index of the source, where that is still true."""
    wanted = {(source.number, source.name): index for index, source in enumerate(sources)}
    results: dict[int, Scanned | Entry] = {}
    shared: dict[Any, Any] = {}
    for spooled, record in journal.records(folder):
        index = wanted.get(tuple(record["source"]))
        if index is not None and index not in results and journal.still_true(sources[index], record):
            results[index] = _sharing(_result(spooled, record), shared)
    return results


def _sharing(item: Scanned | Entry, shared: dict[Any, Any]) -> Scanned | Entry:
    """The same, with one copy in memory of what many images have."""
    if isinstance(item, Entry):
        return item
    spool, notes = (shared.setdefault(value, value) for value in (item.spool, item.notes))
    return replace(item, spool=spool, notes=notes)


def _scan_alone(
    workers: Workers, task: Callable[[list[Numbered]], list[Scanned | Entry]], source: Source, folder: Path
) -> Scanned | Entry:
    for _ in range(TRIES_ALONE):
        for _, found in workers.each(task, [[(0, source)]], at_most=1):
            if not isinstance(found, Died):
                return found[0]
    detail = "the process that read it was killed or crashed, or memory ran out"
    record = journal.about(source, [], code=Code.CRASHED, detail=detail)
    journal.Writer(folder).append(record, b"", b"")
    return Entry(source.number, source.name, Code.CRASHED, detail)


def _result(spooled: journal.Spooled, record: dict[str, Any]) -> Scanned | Entry:
    """What a record says."""
    entry = journal.entry_of(record)
    if entry:
        return entry
    return Scanned(
        spool=spooled.file,
        offset=spooled.offset,
        size=spooled.size,
        content=bytes.fromhex(record["content"]),
        pixels=record["pixels"],
        dicom_patient=record["patient"],
        synthetic=record["synthetic"],
        peak=record["peak"],
        notes=tuple(record["notes"]),
        dicom_study=record["study"],
    )


def warnings_of(sources: Sequence[Source], results: Sequence[Scanned | Entry]) -> list[str]:
    """What to say of pictures that may not look as they should: by class, and by contradiction."""
    usable = [
        (source.label, item)
        for source, item in zip(sources, results, strict=True)
        if isinstance(item, Scanned)
    ]
    peaks: dict[str, list[int]] = defaultdict(list)
    for label, item in usable:
        if item.peak is not None:
            peaks[label].append(item.peak)
    lines = []
    for label, found in sorted(peaks.items()):
        bits = max(found).bit_length()
        if bits < DARK_BITS or max(found) == 2**DARK_BITS - 1:
            lines.append(
                f"class {label}: no value of its {len(found)} 16-bit PNGs is above {max(found)}: they hold "
                f"{bits}-bit data, use {2**bits / 2**16:.0%} of the scale and come out dark; scale them to "
                "16 bits, or give the DICOM files"
            )
    notes = Counter(note for _, item in usable for note in item.notes)
    return lines + [f"{count} images: {note}" for note, count in sorted(notes.items())]


def _batches(sources: Sequence[Source], numbers: Sequence[int]) -> Iterator[list[Numbered]]:
    """Tasks of about BATCH_BYTES: on a busy machine, handing a small image over takes longer than a scan."""
    batch: list[Numbered] = []
    bytes_left = BATCH_BYTES
    for number in numbers:
        batch.append((number, sources[number]))
        bytes_left -= _file_bytes(sources[number].path)
        if bytes_left <= 0 or len(batch) == BATCH_IMAGES:
            yield batch
            batch, bytes_left = [], BATCH_BYTES
    if batch:
        yield batch


def _file_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # its scan reports why
        return 0


def _scan_batch(batch: list[Numbered], folder: Path, options: ScanOptions) -> list[Scanned | Entry]:
    """Scan a batch, in a worker."""
    return [scan_one(source, folder, options) for _, source in batch]


def scan_one(source: Source, folder: Path, options: ScanOptions) -> Scanned | Entry:
    """Decode, render and fingerprint one image. Raises OSError only when the journal can't be written."""
    stamped = _stamp(source.path)
    thumbnail = png = b""
    try:
        rendered = render_file(source.path, options.size, options.fit, options.window)
        if rendered.synthetic and not options.allow_synthetic:
            raise Quarantined(Code.SYNTHETIC, "its header says that a generative model drew it")
        for name in rendered.stated:
            if name in options.refuse:
                raise Quarantined(*REFUSABLE[name])
        levels, chosen = picture(rendered, options.size, options.bits, options.fit)
        png = encode_png(levels)
        thumbnail = fingerprint(rendered.field).tobytes()
        found: dict[str, Any] = {
            "content": _content(source.path).hex(),
            "pixels": pixel_digest(levels),
            "patient": rendered.patient,
            "study": rendered.study,
            "synthetic": rendered.synthetic,
            "peak": rendered.peak,
            "notes": rendered.notes,
            "render": chosen,
        }
    except Quarantined as reason:
        found = {"code": reason.code, "detail": reason.detail}
    except Exception as error:  # noqa: BLE001  a broken file can make its decoder raise nearly anything
        found = {"code": _code_of(error), "detail": f"{type(error).__name__}: {error}"}
    unchanged = stamped == _stamp(source.path)
    record = journal.about(source, stamped if unchanged else [], **found)
    if "code" in record:
        thumbnail = png = b""
        with suppress(Exception):  # what can't be read at all is scanned again
            record["content"] = _content(source.path).hex()
    return _result(_writer(folder).append(record, thumbnail, png), record)


def _stamp(path: str) -> list[int]:
    try:
        return journal.stamp(path)
    except OSError:  # the scan reports why
        return []


@cache
def _writer(folder: Path) -> journal.Writer:
    """The file that this process appends its records to."""
    return journal.Writer(folder)


def _content(path: str) -> bytes:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


def _code_of(error: Exception) -> Code:
    """The code for an error that is not a Quarantined."""
    if isinstance(error, MemoryError):
        return Code.TOO_LARGE
    if isinstance(error, EOFError):
        return Code.TRUNCATED
    return Code.UNREADABLE if isinstance(error, OSError) and error.errno else Code.CORRUPT
