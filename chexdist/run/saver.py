"""Decides when and by whom a checkpoint is written, and which are kept: one thread of rank 0 writes, from a copy, while training goes on.

Kept are the newest `checkpoint.keep` and the best by KID. Evaluations and checkpoints have intervals of their own, so an evaluation
that beats all before it is a reason for a checkpoint too. Which one is best is a function of the log, and a restart cuts the log
back to its checkpoint: a run that was killed saves and keeps what it would have saved and kept.
"""

from collections.abc import Iterable
from threading import Thread
from types import TracebackType
from typing import Self

from chexdist.config.tree import Config
from chexdist.metrics.kid import NAME
from chexdist.metrics.value import Metric
from chexdist.run import checkpoint
from chexdist.run.directory import RunDirectory
from chexdist.run.log import read_log
from chexdist.training.networks import Gan


def best(measured: Iterable[Metric]) -> int | None:
    """The number of images after which KID was lowest, the first of equals; None when it was not measured.

    Only values of the newest protocol are compared. The untrained generator does not count: it has no checkpoint.
    """
    kids = [metric for metric in measured if metric.name == NAME and metric.images]
    alike = (metric for metric in kids if metric.protocol == kids[-1].protocol)
    return min(alike, key=lambda metric: (metric.value, metric.images)).images if kids else None


class Saving:
    """Rank 0's writer of checkpoints. It enters no collective; one checkpoint at most is in flight.

    What goes wrong in it is raised by `start`, `check` or `wait`, in the thread that trains. As a context, it lets
    a checkpoint in flight come to its end after an error, so that the cause is the last word in `status.json`; Ctrl-C does not wait.
    """

    def __init__(self, run: RunDirectory, config: Config) -> None:
        self.run, self.settings, self.patience = run, config.checkpoint, config.control.timeout
        self._measured: list[Metric] = []
        self._writer: Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer and isinstance(error, Exception):
            self._writer.join(self.patience)

    def go_on(self, images: int) -> None:
        """Cut the run back to its checkpoint after so many images: logs, samples, and what a killed save left."""
        self.run.cut_back(images)
        self._measured = read_log(self.run.path) if (self.run.path / "metrics.jsonl").exists() else []
        checkpoint.prune(self.run.path, self.settings.keep, self._best())

    def is_best(self, metrics: list[Metric]) -> bool:
        """Note what was measured; whether it is the best so far."""
        self._measured += metrics
        return any(metric.images == self._best() for metric in metrics)

    def start(self, gan: Gan, state: checkpoint.State) -> None:
        """Let the checkpoint before this one be finished, copy the tensors, and begin to write them.

        Raises:
            WorkError, OSError: the one before could not be written.
        """
        self.wait()
        arguments = (checkpoint.snapshot(gan), state, self._best())
        # a daemon, since a second Ctrl-C stops at once
        self._writer = Thread(target=self._write, args=arguments, name="checkpoint", daemon=True)
        self._writer.start()

    def check(self) -> None:
        """Raise what went wrong in the writer, if anything has."""
        if self._failure:
            raise self._failure

    def wait(self) -> None:
        """Wait until nothing is in flight; raises as `check` does."""
        if self._writer:
            self._writer.join()
        self.check()

    def _best(self) -> int | None:
        return None if self.settings.best == "none" else best(self._measured)

    def _write(self, tensors: checkpoint.Snapshot, state: checkpoint.State, best: int | None) -> None:
        try:
            self.run.flush_log()
            checkpoint.save(self.run.path, tensors, state)
            checkpoint.prune(self.run.path, self.settings.keep, best)
            if not self.run.failed():  # by another rank, which knew the cause while this was being written
                self.run.status("running", state.images)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that trains must hear of it
            self._failure = error
