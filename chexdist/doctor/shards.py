"""The shards as training reads them: the manifest, then samples through the production reader, timed."""

import time
from dataclasses import dataclass

import numpy as np

from chexdist.config.tree import Config, Data
from chexdist.data.decoded import decoded_bytes, is_kept, share_in_memory
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.order import epoch_order
from chexdist.data.reader import SampleReader
from chexdist.distributed.world import World
from chexdist.doctor.finding import Note, amount, counted, listed
from chexdist.errors import UserError, WorkError

SECONDS_TO_READ = 0.5
LATER_EPOCHS = (2, 5, 10)


@dataclass(frozen=True)
class Reading:
    """Images/s of one process, from a trial of so many."""

    rate: float
    read: int


def check_manifest(note: Note, directory: str, settings: Data | None) -> Manifest:
    """Readable, and each local shard there with its size; raises `UserError` and `WorkError`."""
    manifest = read_manifest(directory, settings)
    splits = ", ".join(
        f"{name} {counted(len(split), 'sample')} in {counted(len(split.shards), 'shard')}"
        for name, split in manifest.splits.items()
    )
    note.ok(f"{manifest.directory}: {manifest.size} px, {manifest.bits} bits; {splits}")
    if not len(manifest.splits.get("train", ())):
        raise UserError(
            f"{manifest.directory} has no training samples: build it with a --split that has train"
        )
    return manifest


def try_fetching(note: Note, manifest: Manifest, world: World) -> bool:
    """Fetch a shard of a remote directory into the node's cache, as training does; each rank another, where
    there are as many.

    True, for a local directory at once.

    Raises:
        WorkError: it can't be had.
    """
    cache, shards = manifest.cache, manifest.splits["train"].shards
    if cache is None:
        return True
    shard = shards[world.rank % len(shards)]
    there, begun = cache.holds(shard), time.perf_counter()
    cache.open(shard).close()
    seconds = time.perf_counter() - begun
    rate = "was in it already" if there else f"in {seconds:.2f} s, {shard.bytes / seconds / 1e6:,.1f} MB/s"
    note.ok(f"{shard.name}, {amount(shard.bytes)}, into {cache.directory}: {rate}")
    return True


def try_reading(note: Note, manifest: Manifest, world: World) -> Reading | None:
    """Decode the first sample of every shard, then samples in training's order, for half a second each.

    Each rank begins elsewhere in the order; of a remote directory only what `try_fetching` has fetched is
    read. The page cache may hold what was read lately, so a first epoch can be slower."""
    split = manifest.splits["train"]
    reader = SampleReader(manifest, "train", memory_mib=0)
    order = epoch_order(split.shard_sizes, 0, 0, 0)[world.rank :: world.size]
    firsts = np.cumsum([0, *split.shard_sizes[:-1]])
    if manifest.cache is not None:
        fetched = world.rank % len(split.shards)
        firsts, order = firsts[fetched : fetched + 1], np.flatnonzero(split.shard == fetched)
    damaged: dict[int, str] = {}
    _read(reader, firsts.tolist(), damaged)
    seconds, read = _read(reader, order.tolist(), damaged)
    if damaged:
        first, *_ = damaged.values()
        note.fault(
            f"{len(damaged)} of {counted(read + len(firsts), 'sample')} that were read are damaged, the "
            f"first: {first}"
        )
    if not read:
        return None
    reading = Reading(read / seconds, read)
    rest = "" if read == len(split) else "; `chexdist-shards verify` reads them all"
    if not damaged:
        note.ok(
            f"{read:,} of {counted(len(split), 'training sample')} were decoded, {reading.rate:,.0f} "
            f"images/s in one process (measured; files read lately come from memory){rest}"
        )
    return reading


def _read(reader: SampleReader, samples: list[int], damaged: dict[int, str]) -> tuple[float, int]:
    """Seconds and number of samples, until they or the time are at an end."""
    begun, read = time.perf_counter(), 0
    for sample in samples:
        try:
            reader.read([sample])
        except WorkError as error:
            damaged[sample] = str(error)
        read += 1
        if time.perf_counter() - begun > SECONDS_TO_READ:
            break
    return time.perf_counter() - begun, read


def check_rate(
    note: Note, config: Config, manifest: Manifest, reading: Reading, images_per_second: float, nodes: int
) -> None:
    """What loader processes deliver against what this rank's training takes; a warning where training would
    wait. And what share of later epochs is read from a node's memory.
    """
    processes = max(1, config.data.workers)
    delivered = processes * reading.rate
    decoded, kept = decoded_bytes(manifest), is_kept(manifest, "train", config.data.memory)
    text = (
        f"{counted(processes, 'loader')} can deliver {delivered:,.0f} images/s, a rank trains on "
        f"{images_per_second:,.1f} (both measured here)"
    )
    shares = listed([f"{share_in_memory(nodes, epoch):.0%} of epoch {epoch}" for epoch in LATER_EPOCHS])
    later = f"; read from the decoded split in memory ({amount(decoded)} a node) are {shares}"
    if nodes == 1:
        later = f"; after the first epoch the decoded split ({amount(decoded)}) is in memory"
    if delivered >= images_per_second:
        note.ok(text + (later if kept else ""))
    elif kept:
        note.ok(text + ": training waits in the first epoch" + later)
    else:
        note.warning(
            f"{text}: training waits for data",
            f"set data.workers {-(-images_per_second // reading.rate):.0f}, or data.memory "
            f"{-(-decoded >> 20)} (MiB), which keeps the decoded split",
        )
