"""Logs what each rank's batches took, a line a minute in a file, and names the rank that the others wait for
on the screen.

Times depend on the machine, so they are no metrics: a run that was killed and resumed has other numbers. All
ranks take equally long for a batch, since they wait for each other in its all-reduces. The straggler is
seen by what it does meanwhile: it is busy, or waits for data.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

import torch

from chexdist.distributed.collectives import Collectives
from chexdist.run import layout
from chexdist.run.directory import RunDirectory
from chexdist.training.progress_line import TrainingProgress

SECONDS_BETWEEN = 60.0
FIELDS = ("batch_seconds", "data_wait_share", "busy_share", "memory_bytes")
MUCH = 1.25
"""Times the median of the ranks, from where on the busiest one is named on the screen."""


class RankTimes:
    """One start's times; every method is called by all ranks."""

    def __init__(self, collectives: Collectives, run: RunDirectory, device: torch.device) -> None:
        self._collectives, self._run, self._device = collectives, run, device
        self._due = SECONDS_BETWEEN
        self.begin()

    def begin(self) -> None:
        """Forget what was before, as an evaluation."""
        self._batches, self._waited, self._began, self._busy = 0, 0.0, time.monotonic(), busy_seconds()

    def trained(self, waited: float) -> None:
        """A batch is done, of which so many seconds went into waiting for data."""
        self._batches += 1
        self._waited += waited

    def log(self, images: int, elapsed: float, progress: TrainingProgress) -> None:
        """A line if it is time for one. `elapsed`: seconds of training so far, as all ranks agree on it."""
        if elapsed < self._due or not self._batches:
            return
        self._due = elapsed + SECONDS_BETWEEN
        wall = time.monotonic() - self._began
        busy = (busy_seconds() - self._busy) / wall
        own = [wall / self._batches, self._waited / wall, busy, float(self._memory())]
        rows = self._collectives.all_gather(torch.tensor([own], dtype=torch.float64))
        self.begin()
        line: dict[str, Any] = {"images": images, **dict(zip(FIELDS, rows.T.tolist(), strict=True))}
        self._collectives.run_on_main(lambda: self._run.append(layout.RANKS, line))
        if self._collectives.world.is_main and len(rows) > 1:
            for each in held_up_by(rows):
                progress.print_line(f"{images} images: {each}")

    def _memory(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held_up_by(rows: torch.Tensor) -> list[str]:
    """What to say of ranks [W, FIELDS] that are much busier than the median, or wait much more for data."""
    found = []
    for field, does in ((1, "waits for data"), (2, "is busy")):
        shares = rows[:, field]
        most, median = int(shares.argmax()), float(shares.median())
        if shares[most] > max(MUCH * median, median + 0.1):
            found.append(
                f"rank {most} {does} {float(shares[most]):.0%} of the time, the median of ranks "
                f"{median:.0%}: the others wait for it"
            )
    return found


def busy_seconds() -> float:
    """For how long this thread has run, or could have run had a processor been free; 0 where the kernel does
    not count that."""
    try:
        ran, waited, _ = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(ran) + int(waited)) / 1e9
