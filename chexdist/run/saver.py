"""Decides when and by whom a checkpoint is written: one thread of rank 0 writes, from a copy, while training
continues.

Evaluations and checkpoints have intervals of their own, so an evaluation that beats all before it is a reason
for a checkpoint too."""

from threading import Thread
from types import TracebackType
from typing import Self

from chexdist.config.tree import Config
from chexdist.metrics.value import Metric
from chexdist.run import checkpoint
from chexdist.run.directory import RunDirectory
from chexdist.run.log import read_log
from chexdist.run.retention import best_images, prune


class Saver:
    """Rank 0's writer of checkpoints. It enters no collective; one checkpoint at most is in flight.

    What goes wrong in it is raised by `start`, `check` or `wait`, in the thread that trains. As a context, it
    lets a checkpoint in flight come to its end after an error, so that the cause is the last entry in the
    status; Ctrl-C does not wait."""

    def __init__(self, run: RunDirectory, config: Config) -> None:
        self.run, self.settings, self.timeout = run, config.checkpoint, config.control.timeout
        self._measured: list[Metric] = []
        self._writer: Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer and isinstance(error, Exception):
            self._writer.join(self.timeout)

    def resume(self, images: int) -> None:
        """Truncate the run to its checkpoint after so many images: logs, samples, and what a killed save
        left.
        """
        self.run.truncate(images)
        self._measured = read_log(self.run.path) if self.run.has_log() else []
        self._prune(self._best())

    def is_best(self, metrics: list[Metric]) -> bool:
        """Note what was measured; whether it is the best so far."""
        self._measured += metrics
        return any(metric.images == self._best() for metric in metrics)

    def start(self, tensors: checkpoint.Tensors, state: checkpoint.State) -> None:
        """Let the checkpoint before this one be finished, copy the tensors, and begin to write them.

        Raises:
            WorkError, OSError: the one before could not be written.
        """
        self.wait()
        arguments = (checkpoint.snapshot(tensors), state, self._best())
        # a daemon, since a second Ctrl-C stops at once
        self._writer = Thread(target=self._write, args=arguments, name="checkpoint", daemon=True)
        self._writer.start()

    def is_busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        return self._writer is not None and self._writer.is_alive()

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
        return None if self.settings.best == "none" else best_images(self._measured, self.settings.best)

    def _prune(self, best: int | None) -> None:
        try:
            prune(self.run.path, self.settings.keep, best)
        except OSError as error:  # such as a file that another job on NFS has open
            print(f"chexdist: {error}: older checkpoints are left for the next save to delete", flush=True)

    def _write(self, tensors: checkpoint.Tensors, state: checkpoint.State, best: int | None) -> None:
        try:
            self.run.flush_log()
            checkpoint.save(self.run.path, tensors, state)
            self.run.saved(state.images)
            self._prune(best)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that trains must raise it
            self._failure = error
