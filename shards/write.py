"""How a shard is written: the journal's PNGs -> a WebDataset tar of fixed bytes, and its manifest entry.

The entry of a finished shard is noted beside it, so that a build that resumes does not write it again.
"""

import hashlib
import json
import tarfile
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from shards.files import replace_file, replacing
from shards.journal import read_record
from shards.manifest import Index, Shard
from shards.plan import Sample
from shards.scan import Scanned


@dataclass(frozen=True)
class Packed:
    """What a split holds before shards are added to it: those it has, and the digests of their pictures."""

    shards: list[Shard] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ShardTask:
    """One shard to write into `folder`: its samples in tar order.

    `scanned`: what was found of each, in the journal in `spool`. `noted`: the folder for the entry of the
    finished shard.
    """

    file: str
    split: str
    samples: list[Sample]
    scanned: list[Scanned]
    classes: list[str]
    spool: Path
    folder: Path
    noted: Path

    def digest(self) -> str:
        """SHA-256 of what is in the shard; where the journal has it is left out."""
        pixels = [found.pixels for found in self.scanned]
        said = [self.file, self.split, self.classes, pixels, self.spool.name]
        samples = [[s.key, s.label, s.patient, s.cluster, s.content.hex()] for s in self.samples]
        return hashlib.sha256(json.dumps([said, samples]).encode()).hexdigest()


def write_shard(task: ShardTask) -> Shard:
    """The shard of the task, written unless it is there from before.

    Its index is without what the task says: `described` adds it where the task was made.
    """
    note = task.noted / f"{task.file}.json"
    digest = task.digest()
    shard = _noted(task.folder / task.file, note, digest)
    if shard is None:
        shard = _write(task)
        replace_file(note, json.dumps({"digest": digest, "shard": asdict(shard)}), flush=True)
    return shard


def _noted(path: Path, note: Path, digest: str) -> Shard | None:
    """The entry of a shard that an earlier build finished, if its bytes are still those."""
    try:
        content = json.loads(note.read_bytes())
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    if content["digest"] != digest or content["shard"]["sha256"] != found:
        return None
    return Shard(**{**content["shard"], "index": Index(**content["shard"]["index"])})


def _write(task: ShardTask) -> Shard:
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
            key=[],
            offset=[member.offset_data for member in members],
            size=[member.size for member in members],
            crc32=checksums,
            label=[],
            patient=[],
            cluster=[],
        ),
    )


def described(task: ShardTask, shard: Shard) -> Shard:
    """What `write_shard` gave for the task, with its whole index, whose names are those of the samples."""
    index = replace(
        shard.index,
        key=[sample.key for sample in task.samples],
        label=[sample.label for sample in task.samples],
        patient=[sample.patient for sample in task.samples],
        cluster=[sample.cluster for sample in task.samples],
    )
    return replace(shard, index=index)


def _write_tar(stream: BinaryIO, task: ShardTask) -> list[int]:
    """Write the samples in order; the CRC-32 of each PNG."""
    from webdataset.writer import TarWriter

    checksums = []
    with TarWriter(stream, mtime=0, user="root", group="root", mode=0o644, compress=False) as tar:
        for sample, scanned in zip(task.samples, task.scanned, strict=True):
            found, _, png = read_record(task.spool, scanned.spooled)
            checksums.append(zlib.crc32(png))
            tar.write({"__key__": sample.key, "png": png})  # one call would sort the json first
            content = sample_content(sample.label, sample.patient, sample.cluster, task.split, task.classes)
            content["render"] = found["render"]
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
