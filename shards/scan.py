"""What a scan finds for each image file: whether it is usable, its rendered PNG, digests and PatientID.

An image is decoded once: the small rendered PNG goes into a spool file, from which `write` packs it.
"""

import hashlib
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from shards.content import pixel_digest
from shards.duplicates import fingerprint
from shards.limits import open_plain
from shards.pixels.render import encode_png, picture, render_file
from shards.progress import Progress
from shards.quarantine import Code, Entry, Quarantined
from shards.sources import Source
from shards.workers import Workers

BATCH_BYTES = 2_000_000
BATCH_IMAGES = 16
DARK_BITS = 15  # a class of 16-bit PNGs that ends at 2**15 - 1, or has fewer bits, was not scaled


@dataclass(frozen=True)
class Scanned:
    """A usable image.

    `spool`, `offset`, `size`: where its PNG is in the spool. `fingerprint`: float32 [1024]. `content`: the
    SHA-256 of the source file (32 bytes); `pixels`: the digest of the picture. `peak`, `notes`: see
    `render.Rendered`. `record`: how it was rendered, as JSON.
    """

    spool: str
    offset: int
    size: int
    fingerprint: np.ndarray
    content: bytes
    pixels: str
    dicom_patient: str | None
    synthetic: bool
    peak: int | None = None
    notes: tuple[str, ...] = ()
    dicom_study: str | None = None
    record: str = "{}"


@dataclass(frozen=True)
class ScanOptions:
    """Of `build`: how pictures are rendered, and whether images that say they are synthetic are used."""

    size: int
    bits: int
    allow_synthetic: bool = False
    fit: str = "pad"
    window: str = "auto"


def scan(
    workers: Workers, sources: Sequence[Source], spool: Path, options: ScanOptions, what: str
) -> list[Scanned | Entry]:
    """Scan in parallel; one result for each source, in order: Scanned, or its entry for the quarantine."""
    with Progress(what, len(sources), "images") as progress:
        results = workers.run(
            partial(_scan_batch, spool=spool, options=options),
            _batches(sources),
            progress,
            units=len,
            suspects=lambda _: [path.read_text(errors="replace") for path in sorted(spool.glob("*.now"))],
        )
    scanned = [result for batch in results for result in batch]
    for line in warnings_of(sources, scanned):
        print(line, file=sys.stderr)
    return scanned


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


def _batches(sources: Sequence[Source]) -> list[list[Source]]:
    """Tasks of about BATCH_BYTES: on a busy machine, handing a small image over takes longer than a scan."""
    batches: list[list[Source]] = []
    bytes_left = 0
    for source in sources:
        if bytes_left <= 0 or len(batches[-1]) == BATCH_IMAGES:
            batches.append([])
            bytes_left = BATCH_BYTES
        batches[-1].append(source)
        bytes_left -= _file_bytes(source.path)
    return batches


def _file_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # its scan reports why
        return 0


def _scan_batch(sources: list[Source], spool: Path, options: ScanOptions) -> list[Scanned | Entry]:
    """Scan a batch, in a worker; `PID.now` in the spool names the image at hand, should the worker die."""
    results = []
    for source in sources:
        (spool / f"{os.getpid()}.now").write_bytes(os.fsencode(source.path))
        results.append(scan_one(source, spool, options))
    return results


def scan_one(source: Source, spool: Path, options: ScanOptions) -> Scanned | Entry:
    """Decode, render and fingerprint one image. Raises OSError only when the spool can't be written."""
    try:
        rendered = render_file(source.path, options.size, options.fit, options.window)
        if rendered.synthetic and not options.allow_synthetic:
            raise Quarantined(Code.SYNTHETIC, "its header says that a generative model drew it")
        levels, record = picture(rendered, options.size, options.bits, options.fit)
        png = encode_png(levels)
        thumbnail = fingerprint(rendered.field)
        content = _content(source.path)
    except Quarantined as reason:
        return Entry(source.number, source.name, reason.code, reason.detail)
    except Exception as error:  # noqa: BLE001  a broken file can make its decoder raise nearly anything
        return Entry(source.number, source.name, _code_of(error), f"{type(error).__name__}: {error}")
    path = spool / f"{os.getpid()}.png-spool"
    with open(path, "ab") as file:
        offset = file.tell()
        file.write(png)
    return Scanned(
        spool=path.name,
        offset=offset,
        size=len(png),
        fingerprint=thumbnail,
        content=content,
        pixels=pixel_digest(levels),
        dicom_patient=rendered.patient,
        synthetic=rendered.synthetic,
        peak=rendered.peak,
        notes=rendered.notes,
        dicom_study=rendered.study,
        record=json.dumps(record, sort_keys=True),
    )


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
