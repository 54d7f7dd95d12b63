"""How a shard is written: spooled PNGs -> a WebDataset tar of fixed bytes, and its manifest entry."""

import hashlib
import json
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shards.files import replacing
from shards.manifest import Index, Shard
from shards.plan import Sample
from shards.scan import Scanned


@dataclass(frozen=True)
class ShardTask:
    """One shard to write: its samples in tar order, where each PNG is, and how it was rendered, as JSON."""

    file: str
    split: str
    samples: list[Sample]
    pngs: list[tuple[str, int, int]]
    records: list[str]
    classes: list[str]
    spool: Path
    folder: Path


def png_location(scanned: Scanned) -> tuple[str, int, int]:
    """(spool file, offset, size) of a scanned image's PNG: all of `scanned` that a writer needs."""
    return scanned.spool, scanned.offset, scanned.size


def write_shard(task: ShardTask) -> Shard:
    """Write one tar under a temporary name, flush it to disk, give it its name, and describe it."""
    with replacing(task.folder / task.file, flush=True) as temporary:
        with open(temporary, "wb") as stream:
            checksums = _write_tar(stream, task)
        with tarfile.open(temporary, "r:") as archive:
            members = [member for member in archive if member.name.endswith(".png")]
        with open(temporary, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = temporary.stat().st_size
    labels = [sample.label for sample in task.samples]
    return Shard(
        file=task.file,
        samples=len(labels),
        bytes=size,
        sha256=digest,
        classes=[labels.count(label) for label in range(len(task.classes))],
        index=Index(
            key=[sample.key for sample in task.samples],
            offset=[member.offset_data for member in members],
            size=[member.size for member in members],
            crc32=checksums,
            label=labels,
            patient=[sample.patient for sample in task.samples],
            cluster=[sample.cluster for sample in task.samples],
        ),
    )


def _write_tar(stream: BinaryIO, task: ShardTask) -> list[int]:
    """Write the samples in order; the CRC-32 of each PNG."""
    from webdataset.writer import TarWriter

    checksums = []
    with TarWriter(stream, mtime=0, user="root", group="root", mode=0o644, compress=False) as tar:
        for sample, location, record in zip(task.samples, task.pngs, task.records, strict=True):
            png = _spooled(task.spool, *location)
            checksums.append(zlib.crc32(png))
            tar.write({"__key__": sample.key, "png": png})  # one call would sort the json first
            content = sample_content(sample.label, sample.patient, sample.cluster, task.split, task.classes)
            content["render"] = json.loads(record)
            tar.write({"__key__": sample.key, "json": json.dumps(content, sort_keys=True).encode()})
    return checksums


def sample_content(label: int, patient: str, cluster: str, split: str, classes: list[str]) -> dict[str, Any]:
    """What the `KEY.json` member of a sample says that the manifest says as well."""
    return {
        "label": label,
        "class": classes[label],
        "split": split,
        "patient": patient,
        "cluster": cluster,
    }


def _spooled(spool: Path, file: str, offset: int, size: int) -> bytes:
    with open(spool / file, "rb") as stream:
        stream.seek(offset)
        data = stream.read(size)
    if len(data) != size:
        raise OSError(f"the temporary file {spool / file} was cut off while building")
    return data
