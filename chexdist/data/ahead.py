"""Decides which remote shards a node fetches ahead and keeps, and how many bytes of cache that takes.

Like the order, this is a function of (shard sizes, seed, shuffle window, stream position) and of nothing
else. All ranks of a node read the same shuffle windows at nearly the same time: each its own samples, out of
the same shards.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from chexdist.data.order import shard_order

HOST_SKEW = 8
"""Batches by which one rank's host may be ahead of another's: a GPU's queue holds a few steps."""
READ_AHEAD = 4
"""Batches that each loader worker reads ahead."""
QUEUES = 1 << 16
"""Bytes of shared memory in which a worker's queues hold their locks, a page each."""


def handed_over_bytes(share: int, size: int, bits: int, workers: int, kept: bool) -> int:
    """Bytes of shared memory that one rank's batches of `share` images take at most: those that its workers
    have read ahead, and the one that is trained; and the locks of their queues. 16-bit pixels are handed
    over as int32, a label as int64.

    kept: the decoded split is in memory, from which the trainer takes the pixels itself.
    """
    if kept:
        return workers * QUEUES
    pixels = size**2 * (1 if bits == 8 else 4)
    return (READ_AHEAD * workers + 1) * share * (pixels + 8) + workers * QUEUES if workers else 0


def max_skew(batch: int, workers: int) -> int:
    """Samples by which a rank may read before or after the stream position of another one's trainer."""
    return batch * (READ_AHEAD * workers + HOST_SKEW)


@dataclass(frozen=True)
class ReadAhead:
    """What to fetch ahead in a stream: see `order.epoch_order` for the first three values, and `max_skew`."""

    shard_sizes: tuple[int, ...]
    seed: int
    window: int
    max_skew: int

    def windows(self, position: int) -> Iterator[tuple[range, list[int]]]:
        """Stream positions and shards of each shuffle window, endlessly, from the one of `position` on."""
        shards, samples = len(self.shard_sizes), sum(self.shard_sizes)
        width = self.window or shards
        for epoch in count(position // samples):
            start = epoch * samples
            order = shard_order(shards, self.seed, epoch).tolist()
            for first in range(0, shards, width):
                mixed = order[first : first + width]
                end = start + sum(self.shard_sizes[shard] for shard in mixed)
                if end > position:
                    yield range(start, end), mixed
                start = end

    def to_fetch_and_keep(self, position: int) -> tuple[list[int], list[int]]:
        """Shards to fetch, in the order of reading, and shards to keep, once `position` samples are done.

        Kept is every window that a rank of the node may be reading, and at least the one after the slowest
        rank's. Fetched is what is kept and not entirely before `position`.
        """
        slowest = max(0, position - self.max_skew)
        fetched: dict[int, None] = {}
        kept: dict[int, None] = {}
        for number, (positions, shards) in enumerate(self.windows(slowest)):
            if number >= 2 and positions.start > position + self.max_skew:
                return list(fetched), list(kept)
            kept |= dict.fromkeys(shards)
            if positions.stop > position:
                fetched |= dict.fromkeys(shards)
        raise AssertionError


def cache_bytes(
    shard_sizes: tuple[int, ...], shard_bytes: tuple[int, ...], window: int, max_skew: int
) -> int:
    """Bytes for what `to_fetch_and_keep` keeps at any position: the largest shards of so many windows."""
    shards = len(shard_sizes)
    width = min(window or shards, shards)
    by_samples = sorted(shard_sizes)
    full, rest = sum(by_samples[:width]), sum(by_samples[: shards % width or width])
    per_epoch = -(-shards // width)

    def least(windows: int) -> int:
        """Samples of so many windows in a row, of which each epoch's last may be short."""
        short = -(-windows // per_epoch)
        return (windows - short) * full + short * rest

    inside = 0
    while (inside + 2) * width < shards and least(inside + 1) <= 2 * max_skew:
        inside += 1
    return sum(sorted(shard_bytes)[-(inside + 2) * width :])


def widest_window(
    shard_sizes: tuple[int, ...], shard_bytes: tuple[int, ...], max_skew: int, limit: int
) -> int | None:
    """The largest `data.window` for which `limit` bytes of cache suffice; None when there is none."""
    fitting = bisect_right(
        range(1, len(shard_sizes) + 1),
        limit,
        key=lambda window: cache_bytes(shard_sizes, shard_bytes, window, max_skew),
    )
    return fitting or None
