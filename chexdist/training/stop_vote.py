"""Decides, with all ranks at once, whether to stop early; and how long a request waits for that.

Before a batch the ranks begin an all-reduce of their requests, and read it after the batch, so that neither
they nor the device wait. It also says how long their batches take, and so, the same on all ranks, how many
batches make `SECONDS_BETWEEN`: with the last of them they vote again. Where a batch takes longer than `SLOW`
that would be long: there they vote once more after the batch, and between the micro-batches of the critic's
step (`train.accumulate`), after which the batch can still be undone. A request then waits for one micro-batch
of the critic's step, or for the generator's, whichever is longer; else for the next vote and the batch after
its begin, less than twice `SLOW`."""

import time

import torch

from chexdist.distributed.collectives import Collectives, Pending
from chexdist.distributed.stop_request import StopRequest

SLOW = 5.0
"""Seconds of a batch, beside which those of a vote are nothing."""
SECONDS_BETWEEN = 1.0
"""From vote to vote, where batches take less: a vote's milliseconds grow with the number of ranks."""
MOST_BATCHES = 200
"""From vote to vote: batches may become slower meanwhile."""


class StoppedInABatch(Exception):
    """All ranks have agreed to leave the batch undone."""


class StopVote:
    """The votes of a start. All of its methods are called by all ranks, in the same order."""

    def __init__(self, collectives: Collectives, stop: StopRequest) -> None:
        self._collectives, self._stop = collectives, stop
        self._pending: Pending | None = None
        self._began, self._seconds = 0.0, 0.0
        self._left = 0
        """Batches before that of the next vote: agreed."""
        self.elapsed = 0.0
        """About how many seconds the batches up to the next vote take, since the first: agreed."""
        self.slow = False
        """Whether some rank's batches take longer than `SLOW`: agreed."""

    def warmed_up(self, seconds: float) -> None:
        """What the first batches may take, by the warm-up, which does the same."""
        self._seconds = seconds
        self.slow = bool(self._sum()[1])

    def begin(self) -> None:
        """Before a batch."""
        if not self._left:
            self._pending = self._collectives.all_reduce_async(self._own())
        self._began = time.monotonic()

    def end(self) -> bool:
        """After the batch: whether to stop."""
        self._seconds = time.monotonic() - self._began
        if self._pending is None:
            self._left -= 1
            return False
        asked, slow, seconds = self._pending.result().tolist()
        self._pending = None
        voted_within, self.slow = self.slow, bool(slow)
        mean = seconds / self._collectives.world.size
        self._left = self._batches_between(mean)
        self.elapsed += mean * (self._left + 1)
        return bool(asked) or (voted_within and bool(self._sum()[0]))

    def between_parts(self) -> None:
        """Raises StoppedInABatch, on all ranks, if one was asked."""
        if self.slow and self._sum()[0]:
            raise StoppedInABatch

    @staticmethod
    def _batches_between(seconds: float) -> int:
        """How many batches of so many seconds have no vote after one that has."""
        if seconds * MOST_BATCHES <= SECONDS_BETWEEN:
            return MOST_BATCHES - 1
        return max(0, int(SECONDS_BETWEEN / seconds) - 1)

    def _own(self) -> torch.Tensor:
        return torch.tensor([float(self._stop.requested), float(self._seconds > SLOW), self._seconds])

    def _sum(self) -> torch.Tensor:
        return self._collectives.all_reduce(self._own())
