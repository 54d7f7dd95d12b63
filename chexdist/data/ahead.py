"""Decides which shards have to be at hand while a training stream stands at a position, and what room they need.

Like the order, this is a function of (shard sizes, seed, window, position) and of nothing else. All ranks of a node read the
same windows at nearly the same time: each samples of its own, out of the same shards.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from chexdist.data.order import shard_order

APART = 8
"""Batches by which one rank's host may be ahead of another's: a GPU's queue holds a few steps."""
READ_AHEAD = 4
"""Batches that each loader worker reads ahead."""


def reach(batch: int, workers: int) -> int:
    """Samples of the stream that any rank of a node may be reading at, before or after where one rank's trainer is."""
    return batch * (READ_AHEAD * workers + APART)


@dataclass(frozen=True)
class Ahead:
    """The windows of a stream; see `order.epoch_order` for the first three values, and `reach`."""

    shard_sizes: tuple[int, ...]
    seed: int
    window: int
    reach: int

    def windows(self, position: int) -> Iterator[tuple[range, list[int]]]:
        """Stream positions and shards of each window, from the one that `position` is in, for ever."""
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

    def at(self, position: int) -> tuple[list[int], list[int]]:
        """While `position` samples of the stream are done: (shards to fetch, in the order of need; shards to keep).

        Kept is every window that any rank of the node may be reading, and the one after the slowest rank's at least. Fetched is
        what is kept and not passed.
        """
        slowest = max(0, position - self.reach)
        fetched: dict[int, None] = {}
        kept: dict[int, None] = {}
        for number, (places, shards) in enumerate(self.windows(slowest)):
            if number >= 2 and places.start > position + self.reach:
                return list(fetched), list(kept)
            kept |= dict.fromkeys(shards)
            if places.stop > position:
                fetched |= dict.fromkeys(shards)
        raise AssertionError


def room(shard_sizes: tuple[int, ...], shard_bytes: tuple[int, ...], window: int, reach: int) -> int:
    """Bytes that hold what `Ahead.at` keeps, wherever the stream stands: the largest shards of as many windows as that can be."""
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
    while (inside + 2) * width < shards and least(inside + 1) <= 2 * reach:
        inside += 1
    return sum(sorted(shard_bytes)[-(inside + 2) * width :])


def widest_window(
    shard_sizes: tuple[int, ...], shard_bytes: tuple[int, ...], reach: int, limit: int
) -> int | None:
    """The largest `window` for which `limit` bytes are room enough; None when there is none."""
    fitting = bisect_right(
        range(1, len(shard_sizes) + 1), limit, key=lambda w: room(shard_sizes, shard_bytes, w, reach)
    )
    return fitting or None
