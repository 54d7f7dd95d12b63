"""Delivers a rank's share of each global batch, through loader workers, from any batch on.

torch's DataLoader fetches; which samples is decided by `order`, and by the share of a batch that the caller
has from `distributed.partition`. It is never wrapped by Accelerate, which would let rank 0 read for all. What
workers have read ahead does not count: the cursor is the trainer's batch number.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from chexdist.data.ahead import READ_AHEAD, ReadAhead, max_skew
from chexdist.data.order import batch_samples
from chexdist.data.prefetch import fetching_ahead
from chexdist.data.reader import SampleReader
from chexdist.distributed.stop_request import SIGNALS
from chexdist.errors import WorkError

Batch = tuple[torch.Tensor, torch.Tensor]
Fetched = Batch | list[int] | WorkError
DIED = "DataLoader worker"
"""How torch's message about a loader process that died begins."""
TIMED_OUT = "DataLoader timed out"
SECONDS_BETWEEN_LOOKS = 2
"""A rank that waits for its loader looks this often whether it should wait on."""


class _Shares(Sampler[list[int]]):
    """The sample numbers of this rank's share, batch after batch, endlessly."""

    def __init__(
        self, shard_sizes: tuple[int, ...], seed: int, window: int, batch: int, share: range, first: int
    ) -> None:
        self.stream = (shard_sizes, seed, window, batch)
        self.share = share
        self.first = first

    def __iter__(self) -> Iterator[list[int]]:
        for t in count(self.first):
            yield batch_samples(*self.stream, t)[self.share.start : self.share.stop].tolist()


class _Samples(Dataset[Batch]):
    """Fetches a whole batch at once, which `DataLoader` prefers to fetching samples."""

    def __init__(self, reader: SampleReader) -> None:
        self.reader = reader

    def __getitems__(self, samples: list[int]) -> Fetched:
        """What a loader process hands over: a batch; where memory keeps the decoded split, which all share,
        only the numbers of its samples.

        An error is returned as a value: raised here, torch would wrap it in a worker's traceback."""
        try:
            if get_worker_info() is None:
                return self.batch(samples)
            return samples if self.reader.keep(samples) else _shared(self.batch(samples))
        except WorkError as error:
            return error

    def batch(self, samples: list[int]) -> Batch:
        """Pixels and labels of these samples."""
        pixels = self.reader.read(samples)
        if pixels.dtype == np.uint16:
            pixels = pixels.astype(np.int32)  # torch has few operations on uint16
        return torch.from_numpy(pixels), torch.from_numpy(self.reader.split.label[samples])


def _shared(batch: Batch) -> Batch | WorkError:
    """The batch in shared memory. Left to torch, a thread would do it, print what fails and lose it."""
    try:
        for tensor in batch:
            tensor.share_memory_()
    except (RuntimeError, OSError) as error:
        return _no_room(error)
    return batch


def _no_room(error: Exception) -> WorkError:
    return WorkError(
        f"loader processes could not hand over a batch: {str(error).splitlines()[0]}. Usually /dev/shm is "
        "full: make it larger (containers: --shm-size), or give --data.workers 0"
    )


def _as_fetched(fetched: Any) -> Fetched:
    return fetched


def _ignore_signals(worker: int) -> None:
    """A stop signal reaches the whole process group; the trainer needs its workers until it has stopped."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def batches(
    reader: SampleReader,
    *,
    seed: int,
    window: int,
    batch: int,
    share: range,
    first: int,
    workers: int,
    pin: bool = False,
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Generator[Batch, None, None]:
    """Endless batches of this rank from global batch `first` on.

    Pixels [len(share), size, size], uint8 or int32, and labels [len(share)], int64.

    Args:
        waiting: called every few seconds while a loader process is waited for, with the seconds waited for
            this batch; what it raises ends the waiting.

    Raises:
        WorkError: a shard does not hold what its manifest says, can't be fetched, or a loader process died.
    """
    ahead = ReadAhead(reader.split.shard_sizes, seed, window, max_skew(batch, workers))
    samples = _Samples(reader)
    loader = DataLoader(
        samples,
        batch_sampler=_Shares(reader.split.shard_sizes, seed, window, batch, share, first),
        num_workers=workers,
        collate_fn=_as_fetched,
        worker_init_fn=_ignore_signals,
        pin_memory=pin,
        multiprocessing_context="fork" if workers else None,
        prefetch_factor=READ_AHEAD if workers else None,
        timeout=SECONDS_BETWEEN_LOOKS if workers else 0,
    )
    try:
        with fetching_ahead(reader, ahead) as done, _started(loader) as started:
            done(first * batch)
            for t, fetched in enumerate(_patiently(started, waiting), first):
                if isinstance(fetched, WorkError):
                    raise fetched
                done(t * batch)
                if isinstance(fetched, list):
                    pixels, labels = samples.batch(fetched)
                    fetched = (pixels.pin_memory(), labels.pin_memory()) if pin else (pixels, labels)
                yield fetched
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not workers or isinstance(error, RuntimeError) and DIED not in str(error):
            raise
        if threading.current_thread() is threading.main_thread():
            # torch's handler would raise the same again, at any instruction
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reason = str(error) if DIED in str(error) else f"{DIED} died ({error})"
        raise WorkError(
            f"{reason.strip().rstrip('.')}. Often memory is short: lower data.workers or data.memory"
        ) from None


@contextmanager
def _started(loader: DataLoader[Batch]) -> Iterator[Iterator[Fetched]]:
    """A pass of the loader; its processes end with it, also one that hangs and, since it ignores the signals,
    would be waited for when this process ends.
    """
    if loader.num_workers:
        _give_freed_memory_back()
    try:
        started: Any = iter(loader)
    except OSError as error:
        # what torch has half made asks for this when it is deleted, and would print a traceback without
        setattr(_MultiProcessingDataLoaderIter, "_shutdown", True)  # noqa: B010
        raise _no_room(error) from None
    try:
        yield started
    finally:
        if loader.num_workers:
            started._shutdown_workers()  # else torch does the same when it finds no reference any more
            for worker in started._workers:
                worker.kill()


def _give_freed_memory_back() -> None:
    """What the allocator has kept of an evaluation's memory is otherwise in a forked process as well, as soon
    as this one writes to it again. For glibc; other allocators have no such call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _patiently(fetched: Iterator[Fetched], waiting: Callable[[float], None]) -> Iterator[Fetched]:
    """The same, endlessly; torch's time limit for a batch becomes a call of `waiting`."""
    while True:
        begun = time.monotonic()
        while True:
            try:
                batch = next(fetched)
                break
            except RuntimeError as error:
                if TIMED_OUT not in str(error):
                    raise
            waiting(time.monotonic() - begun)
        yield batch


def to_unit_range(pixels: torch.Tensor, bits: int, dtype: torch.dtype) -> torch.Tensor:
    """Pixels [N, size, size] in 0 .. 2^bits - 1 -> images [N, 1, size, size] in [-1, 1]."""
    return pixels.to(dtype, copy=True).mul_(2.0 / (2**bits - 1)).sub_(1.0)[:, None]
