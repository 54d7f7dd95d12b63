"""What is learnt from each image file: whether it is usable, its rendered PNG, fingerprint and PatientID.

An image is decoded once: the small rendered PNG goes into a spool file, from which `write` packs it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from shards.duplicates import fingerprint
from shards.progress import Progress
from shards.quarantine import Code, Entry, Quarantined
from shards.render import encode_png, render_file, to_square
from shards.sources import Source
from shards.workers import Workers


@dataclass(frozen=True)
class Scanned:
    """A usable image: its PNG's place in the spool, fingerprint (float32 [1024]) and DICOM PatientID."""

    spool: str
    offset: int
    size: int
    fingerprint: np.ndarray
    dicom_patient: str | None


def scan(
    workers: Workers, sources: Sequence[Source], spool: Path, size: int, bits: int, what: str
) -> list[Scanned | Entry]:
    """Scan in parallel; one result for each source, in order: Scanned, or its entry for the quarantine."""
    with Progress(what, len(sources), "images") as progress:
        task = partial(scan_one, spool=spool, size=size, bits=bits)
        return workers.run(task, sources, progress, units=lambda _: 1, name=lambda source: source.path)


def scan_one(source: Source, spool: Path, size: int, bits: int) -> Scanned | Entry:
    """Decode, render and fingerprint one image. Raises OSError only when the spool can't be written."""
    try:
        field, dicom_patient = render_file(source.path)
        png = encode_png(to_square(field, size), bits)
        thumbnail = fingerprint(field)
    except Quarantined as reason:
        return Entry(source.number, source.name, reason.code, reason.detail)
    except Exception as error:  # noqa: BLE001  a broken file can make its decoder raise nearly anything
        return Entry(source.number, source.name, _code_of(error), f"{type(error).__name__}: {error}")
    path = spool / f"{os.getpid()}.png-spool"
    with open(path, "ab") as file:
        offset = file.tell()
        file.write(png)
    return Scanned(path.name, offset, len(png), thumbnail, dicom_patient)


def _code_of(error: Exception) -> Code:
    """The code for an error that no rule of ours foresaw."""
    if isinstance(error, MemoryError):
        return Code.TOO_LARGE
    if isinstance(error, EOFError):
        return Code.TRUNCATED
    return Code.UNREADABLE if isinstance(error, OSError) and error.errno else Code.CORRUPT
