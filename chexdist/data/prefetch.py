"""Fetches remote shards ahead of their need, in a process beside a rank's loader workers.

It only saves time: a reader that finds a shard missing fetches it itself. So it may be killed at any time,
and a rank whose fetcher has ended trains on. The ranks of a node have one each; the cache lets only one of
them fetch a shard.
"""

import mmap
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from chexdist.data.ahead import ReadAhead
from chexdist.data.cache import ShardCache
from chexdist.data.reader import SampleReader
from chexdist.data.remote import Orphaned, TryFailed, check_parent, pause
from chexdist.distributed.stop_request import SIGNALS

POLL = 0.1


@contextmanager
def fetching_ahead(reader: SampleReader, ahead: ReadAhead) -> Iterator[Callable[[int], None]]:
    """A fetcher while this lasts. Call the function that it yields with the number of samples done."""
    position = np.frombuffer(mmap.mmap(-1, 8), np.int64)

    def done(samples: int) -> None:
        position[0] = samples

    if reader.cache is None:
        yield done
        return
    position[0] = -1
    fetcher = multiprocessing.get_context("fork").Process(
        target=_run, args=(reader, reader.cache, ahead, position), name="fetcher", daemon=True
    )
    fetcher.start()
    try:
        yield done
    finally:
        fetcher.kill()
        fetcher.join()


def _run(reader: SampleReader, cache: ShardCache, ahead: ReadAhead, position: np.ndarray) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    failures: dict[int, tuple[int, float]] = {}  # by shard: how many in a row, when to try again
    with suppress(Orphaned, KeyboardInterrupt):
        while True:
            check_parent()
            if position[0] < 0 or not _fetch_one(reader, cache, ahead, int(position[0]), failures):
                time.sleep(POLL)


def _fetch_one(
    reader: SampleReader,
    cache: ShardCache,
    ahead: ReadAhead,
    position: int,
    failures: dict[int, tuple[int, float]],
) -> bool:
    """Fetch the first shard that is missing; False when there is none that can be fetched now."""
    wanted, kept = ahead.to_fetch_and_keep(position)
    shards = reader.split.shards
    keep = [shards[number] for number in kept]
    cache.touch(keep)
    for number in wanted:
        count, again = failures.get(number, (0, 0.0))
        if time.monotonic() < again or not reader.needs(number) or cache.holds(shards[number]):
            continue
        try:
            if cache.fetch(shards[number], keep):
                failures.pop(number, None)
                return True
        except TryFailed:  # a reader that still lacks it then raises
            failures[number] = count + 1, time.monotonic() + pause(min(count + 1, 8))
    return False
