"""How a shard is written: the journal's PNGs -> a WebDataset tar of fixed bytes, and its manifest entry.

The entry of a finished shard is noted beside it, so that a build that resumes does not write it again.
"""

import hashlib
import json
import tarfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from shards.files import replace_file, replacing
from shards.journal import Spooled, read_record
from shards.manifest import Index, Shard
from shards.plan import Sample


@dataclass(frozen=True)
class ShardTask:
    """One shard to write into `folder`: its samples in tar order.

    `records`: where they are in the journal in `spool`. `pixels`: their pixel digests. `noted`: the folder
    for the entry of the finished shard.
    """

    file: str
    split: str
    samples: list[Sample]
    records: list[Spooled]
    pixels: list[str]
    classes: list[str]
    spool: Path
    folder: Path
    noted: Path

    def digest(self) -> str:
        """SHA-256 of what is in the shard; where the journal has it is left out."""
        said = [self.file, self.split, self.classes, self.pixels, self.spool.name]
        samples = [[s.key, s.label, s.patient, s.cluster, s.content.hex()] for s in self.samples]
        return hashlib.sha256(json.dumps([said, samples]).encode()).hexdigest()


def write_shard(task: ShardTask) -> Shard:
    """The shard of the task, written unless it is there from before."""
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
        for sample, spooled in zip(task.samples, task.records, strict=True):
            found, _, png = read_record(task.spool, spooled)
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
