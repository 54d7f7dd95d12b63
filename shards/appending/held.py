"""What a set holds, read from its shards alone: digests of its pictures, and fingerprints to find copies by.

The pictures are all there is: the source files of the build need not exist any more. Those that fill a part
of their square are fingerprinted without what is around it.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.content import pixel_digest
from shards.copies.fingerprint import fingerprint
from shards.copies.registration import SIDE
from shards.errors import WorkError
from shards.manifest import Manifest, Shard
from shards.pixels.render import decode_png
from shards.progress import Progress
from shards.workers import Workers


@dataclass(frozen=True)
class Held:
    """The samples of a set in the order of its manifest, as parallel lists.

    `pixels`: the digests of their pictures; `prints`: their fingerprints, uint8 [n, SIDE, SIDE].
    """

    key: list[str]
    label: list[int]
    patient: list[str]
    cluster: list[str]
    split: list[str]
    pixels: list[str]
    prints: np.ndarray


@dataclass(frozen=True)
class _Task:
    path: Path
    shard: Shard
    size: int
    bits: int
    prints: Path


def read_held(workers: Workers, out: Path, content: Manifest, folder: Path) -> Held:
    """Read all pictures of the set in `out`, in parallel; fingerprints go to `folder`.

    Raises WorkError for a shard that is missing or damaged.
    """
    folder.mkdir(exist_ok=True)
    size, bits = content.render["size"], content.render["bits"]
    named = [(name, shard) for name, split in content.splits.items() for shard in split.shards]
    tasks = [_Task(out / shard.file, shard, size, bits, folder / shard.file) for _, shard in named]
    with Progress("read the set", sum(shard.samples for _, shard in named), "images") as progress:
        digests = workers.run(
            _read_shard,
            tasks,
            progress,
            units=lambda task: task.shard.samples,
            suspects=lambda tasks: [task.shard.file for task in tasks],
        )
    joined = folder / "all"
    with open(joined, "wb") as file:
        for task in tasks:
            file.write(task.prints.read_bytes())
            task.prints.unlink()
    count = joined.stat().st_size // SIDE**2
    prints = np.memmap(joined, np.uint8, "r", shape=(count, SIDE, SIDE)) if count else _no_prints()
    column = {
        name: [value for _, shard in named for value in getattr(shard.index, name)]
        for name in ("key", "label", "patient", "cluster")
    }
    return Held(
        **column,
        split=[name for name, shard in named for _ in range(shard.samples)],
        pixels=[digest for digests_of_one in digests for digest in digests_of_one],
        prints=prints,
    )


def _no_prints() -> np.ndarray:
    return np.zeros((0, SIDE, SIDE), np.uint8)


def _read_shard(task: _Task) -> list[str]:
    """The digests of a shard's pictures; their fingerprints go into the file `prints`."""
    try:
        data = task.path.read_bytes()
    except OSError as error:
        raise WorkError(f"can't read {task.path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != task.shard.sha256:
        raise WorkError(f"{task.path} is damaged: `chexdist-shards verify {task.path.parent}` says where")
    digests, prints = [], []
    index = task.shard.index
    for place, offset, size in zip(_places(data), index.offset, index.size, strict=True):
        levels = decode_png(data[offset : offset + size], task.size, task.bits)
        digests.append(pixel_digest(levels))
        prints.append(print_of(levels, task.bits, place))
    task.prints.write_bytes(b"".join(prints))
    return digests


def print_of(levels: np.ndarray, bits: int, place: Sequence[int]) -> bytes:
    """The fingerprint of the part [top, left, bottom, right] of a picture's levels; SIDE**2 bytes."""
    top, left, bottom, right = place
    field = levels[top:bottom, left:right].astype(np.float32) / np.float32(2**bits - 1)
    return fingerprint(field).tobytes()


def _places(data: bytes) -> list[Any]:
    """Where in its square each picture of a tar is, by its record."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        members = [member for member in archive if member.name.endswith(".json")]
    return [
        json.loads(data[member.offset_data : member.offset_data + member.size])["render"]["to"]
        for member in members
    ]
