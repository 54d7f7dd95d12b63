"""Shows the log in an experiment tracker too, through Accelerate. Rank 0 alone calls these.

The log is the truth: every start gives a fresh tracker all of it, so the two never differ, wherever the run
was truncated, and a tracker that is switched on late has the whole history."""

from pathlib import Path

from accelerate import Accelerator

from chexdist.metrics.value import Metric
from chexdist.run import layout
from chexdist.run.log import read_log


def begin(accelerator: Accelerator, run: Path) -> None:
    """Start the tracker that the accelerator was made with, if there is one, with all that the run has logged
    so far.
    """
    if not accelerator.log_with:
        return
    # purge_step: TensorBoard forgets what it reads in the files of earlier starts, which may have gone
    # further than the log
    accelerator.init_trackers(layout.TENSORBOARD, init_kwargs={"tensorboard": {"purge_step": 0}})
    if (run / layout.LOG).exists():
        track(accelerator, read_log(run))


def track(accelerator: Accelerator, metrics: list[Metric]) -> None:
    """Add these values, each at its number of images and its time; without a tracker, nothing."""
    for metric in metrics:
        accelerator.log(
            {metric.name: metric.value},
            step=metric.images,
            log_kwargs={"tensorboard": {"walltime": metric.time}},
        )


def end(accelerator: Accelerator) -> None:
    """Tell the tracker that no more comes."""
    for tracker in accelerator.trackers:
        tracker.finish()
