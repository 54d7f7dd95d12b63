"""What each of N ranks would read, by the functions that decide it in training, and how long an epoch would
take, by a formula.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest, Split
from chexdist.data.order import batch_samples
from chexdist.distributed.heartbeat import WATCH, known_within, seconds_between
from chexdist.distributed.open_files import hard_limit, needed
from chexdist.distributed.partition import share
from chexdist.doctor.finding import Note, amount, counted

ASSUMED_BANDWIDTH = 1e9
"""Bytes/s between ranks where none was measured: a network of 10 Gbit/s."""
SHOWN = 3


@dataclass(frozen=True)
class Constants:
    """What was measured on this machine: seconds of training an image, images/s of one loader process,
    bytes/s between ranks.
    """

    seconds: float
    reading: float
    bandwidth: float | None


@dataclass(frozen=True)
class Epoch:
    """What N ranks read of the first epoch: shares, and by rank the images, the shards that these lie in, and
    their bytes.

    `times` says of each sample how often it was read, by all ranks.
    """

    shares: list[range]
    images: np.ndarray
    shards: np.ndarray
    bytes: np.ndarray
    times: np.ndarray


def read_epoch(split: Split, config: Config, ranks: int) -> Epoch:
    """Let every rank take its share of each global batch until the epoch is over."""
    train, samples = config.train, len(split)
    batches = -(-samples // train.batch)
    stream = np.stack(
        [
            batch_samples(split.shard_sizes, train.seed, config.data.window, train.batch, t)
            for t in range(batches)
        ]
    )
    position = np.arange(stream.size).reshape(stream.shape)
    shares = [share(train.batch, train.group, ranks, rank) for rank in range(ranks)]
    times = np.zeros(samples, np.int64)
    images, shards, size = (np.zeros(ranks, np.int64) for _ in range(3))
    for rank, mine in enumerate(shares):
        columns = slice(mine.start, mine.stop)
        read = stream[:, columns][
            position[:, columns] < samples
        ]  # the last batch continues into the next epoch
        np.add.at(times, read, 1)
        images[rank], size[rank] = len(read), split.size[read].sum()
        shards[rank] = len(np.unique(split.shard[read]))
    return Epoch(shares, images, shards, size, times)


def with_enough_groups(note: Note, config: Config, ranks: int) -> Config:
    """The configuration, with a larger batch and a fault where the batch has fewer groups than there are
    ranks.
    """
    train = config.train
    if ranks * train.group <= train.batch:
        return config
    batch = ranks * train.group
    note.fault(
        f"{counted(ranks, 'rank')} need a group of {counted(train.group, 'image')} each, but train.batch "
        f"{train.batch} has {counted(train.batch // train.group, 'group')}; what follows is with "
        f"train.batch {batch}",
        f"set train.batch {batch}, or lower train.group",
    )
    return config.model_copy(update={"train": train.model_copy(update={"batch": batch})})


def check_open_files(note: Note, ranks: int) -> None:
    """What a rank's process groups hold open, against what it may have here."""
    held, limit = needed(ranks), hard_limit()
    if held > limit:
        note.fault(
            f"each of {counted(ranks, 'rank')} holds up to {held:,} files and sockets open, but a process "
            f"here may have {limit:,.0f}",
            f"raise the hard limit of open files (ulimit -Hn) to {held:,} on every node",
        )
    else:
        note.ok(
            f"each rank holds up to {held:,} files and sockets open; a process here may have {limit:,.0f}"
        )


def check_control(note: Note, ranks: int) -> None:
    """What ranks ask of the shared disk while all is well, and when they know of one that died."""
    beats, looks = ranks / seconds_between(ranks), ranks / WATCH
    note.ok(
        f"the shared disk gets {beats:,.0f} heartbeats and {looks:,.0f} looks for marks a second from all "
        f"ranks; a dead rank is known to all within {known_within(ranks):.0f} s"
    )


def simulate(
    note: Note,
    config: Config,
    manifest: Manifest,
    ranks: int,
    constants: Constants | None,
    gradients: tuple[int, int],
) -> Iterator[str]:
    """Lines for the reader, and a finding on whether every sample is read once.

    Args:
        constants: None where they could not be measured; then nothing is said of time.
        gradients: bytes of the generator's and the critic's gradients.
    """
    train, split = config.train, manifest.splits["train"]
    epoch = read_epoch(split, config, ranks)
    if (epoch.times == 1).all():
        note.ok(
            f"{counted(ranks, 'rank')} read each of {counted(len(split), 'sample')} exactly once an epoch"
        )
    else:
        wrong = int((epoch.times != 1).sum())
        note.fault(
            f"{counted(wrong, 'sample')} would not be read exactly once an epoch",
            "report this: it must not be",
        )
    check_open_files(note, ranks)
    check_control(note, ranks)
    yield (
        f"{counted(ranks, 'rank')}, train.batch {train.batch:,} in groups of {train.group}; "
        f"{counted(len(split), 'training sample')}"
    )
    for rank in sorted({*range(min(SHOWN, ranks)), ranks - 1}):
        mine = epoch.shares[rank]
        yield (
            f"rank {rank}: images {mine.start:,} to {mine.stop - 1:,} of each batch; {epoch.images[rank]:,} "
            f"an epoch, {amount(int(epoch.bytes[rank]))} from {counted(int(epoch.shards[rank]), 'shard')}"
        )
    shares = [len(mine) for mine in epoch.shares]
    yield (
        f"all ranks: {min(shares):,} to {max(shares):,} images of each batch; {epoch.images.min():,} to "
        f"{epoch.images.max():,} an epoch, from {epoch.shards.min():,} to {epoch.shards.max():,} shards"
    )
    if constants is not None:
        yield from _epoch_time(config, len(split), max(shares), ranks, constants, gradients)


def _epoch_time(
    config: Config, samples: int, share: int, ranks: int, constants: Constants, gradients: tuple[int, int]
) -> Iterator[str]:
    """batches x max(n s + 2 (W - 1) / W g / b,  n / (p d)): computing and summing gradients in turn, while
    loaders read ahead.
    """
    batches = -(-samples // config.train.batch)
    generator, critic = gradients
    summed = critic + generator / config.train.n_critic
    bandwidth = constants.bandwidth or ASSUMED_BANDWIDTH
    processes = max(1, config.data.workers)
    computing, summing = share * constants.seconds, 2 * (ranks - 1) / ranks * summed / bandwidth
    reading = share / (processes * constants.reading)
    total = batches * max(computing + summing, reading)
    yield (
        f"an epoch: about {_duration(total)}, EXTRAPOLATED from this machine, not measured: "
        "batches x max(n s + 2 (W - 1) / W g / b, n / (p d))"
    )
    yield (
        f"  batches = {batches:,}; W = {counted(ranks, 'rank')}; n = {share:,} images, the largest share; "
        f"p = {counted(processes, 'loader')} a rank"
    )
    yield f"  s = {constants.seconds * 1e3:,.2f} ms of training for an image, measured here and now"
    yield f"  d = {constants.reading:,.0f} images/s read and decoded by one process, measured here and now"
    yield f"  g = {amount(summed)} of gradients a batch; b = {bandwidth / 1e6:,.0f} MB/s between ranks, " + (
        "measured here and now"
        if constants.bandwidth
        else "ASSUMED (10 Gbit/s); start doctor by a launcher to measure it"
    )
    yield (
        f"  so a batch takes {_duration(computing)} computing + {_duration(summing)} summing, or "
        f"{_duration(reading)} reading where that is longer; evaluation, checkpoints, start-up and a "
        "contended disk or network come on top"
    )


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
