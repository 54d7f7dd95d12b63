"""Decides which checkpoints are kept: the newest `checkpoint.keep`, and the best so far by `checkpoint.best`.

Which one is best is a function of the log, and a restart truncates the log to its checkpoint: a run that was
killed keeps what it would have kept."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from chexdist.errors import WorkError
from chexdist.metrics import METRICS
from chexdist.metrics.value import Metric
from chexdist.run import layout
from chexdist.run.checkpoint import UnreadableError, read_state


def best_images(measured: Iterable[Metric], name: str) -> int | None:
    """The number of images after which a metric was best, the first of equals; None when it was not measured.

    Only values of the newest protocol are compared. The untrained generator does not count: it has no
    checkpoint."""
    named = [metric for metric in measured if metric.name == name and metric.images]
    comparable = [metric for metric in named if metric.protocol == named[-1].protocol]
    if not comparable:
        return None
    return min(comparable, key=lambda metric: (METRICS[name].distance(metric), metric.images)).images


def prune(run: Path, keep: int, best: int | None = None) -> None:
    """Delete all but the newest `keep` whole checkpoints and that of `best` images, and what an interrupted
    save left.

    One that was written early, for a stop, goes with the next: the schedule's stay as if nobody had stopped.
    """
    for path in layout.partials(run):
        shutil.rmtree(path)
    kept = 0
    for path in layout.checkpoints(run):
        wanted = kept < keep or layout.images_of(path.name) == best
        try:
            state = read_state(path, verify=True) if wanted else None
        except UnreadableError:
            continue  # it may be whole
        except WorkError:
            state = None
        if state and not (state.early and kept):
            kept += 1
        else:
            # killed in between, this leaves no directory without a last file, which nobody would ever delete
            shutil.rmtree(path.rename(layout.partial(path)))
