"""Shows the log in an experiment tracker too, through Accelerate. Rank 0 alone calls these.

The log is the truth: every start gives a fresh tracker all of it, so the two never differ, wherever the run
was truncated, and a tracker that is switched on late has the whole history. Services that keep every start,
as Weights & Biases, show each as a run of its own, under the name of the run directory. A tracker that fails,
for want of a login or of its server, is reported once and dropped; training continues."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from accelerate import Accelerator

from chexdist.metrics.value import Metric
from chexdist.run import layout
from chexdist.run.log import read_log

NO_FOLDERS = ("mlflow", "dvclive")
"""To whom `kid_x1000` can't be a number and the folder of `kid_x1000/real`."""


def begin(accelerator: Accelerator, run: Path) -> None:
    """Start the tracker that the accelerator was made with, if there is one, with all that the run has logged
    so far.
    """
    if not accelerator.log_with:
        return
    name = run.resolve().name
    settings: dict[str, dict[str, object]] = {
        # it forgets what it reads in the files of earlier starts, which may have gone further than the log
        "tensorboard": {"purge_step": 0},
        "wandb": {"name": name, "group": name, "dir": str(run)},
        "mlflow": {"run_name": name},
        "trackio": {"name": name},
        "swanlab": {"experiment_name": name, "logdir": str(run / "swanlog")},
        "clearml": {"task_name": name},
        "aim": {"experiment": name},
        "dvclive": {"dir": str(run / "dvclive"), "dvcyaml": None, "save_dvc_exp": False},
    }
    (asked,) = accelerator.log_with
    project = layout.TENSORBOARD if str(asked) == "tensorboard" else "chexdist"
    with _dropped_if_it_fails(accelerator):
        accelerator.init_trackers(project, init_kwargs=settings)
    if accelerator.trackers and (run / layout.LOG).exists():
        track(accelerator, read_log(run))


def track(accelerator: Accelerator, metrics: list[Metric]) -> None:
    """Add these values, each at its number of images and its time; without a tracker, nothing."""
    # one call for the metrics of an evaluation: for some trackers each is a request over the network
    for (images, time), group in groupby(metrics, lambda metric: (metric.images, metric.time)):
        if not accelerator.trackers:
            return
        values = {metric.name: metric.value for metric in group}
        if accelerator.trackers[0].name in NO_FOLDERS:
            values = {name.replace("/", "."): value for name, value in values.items()}
        with _dropped_if_it_fails(accelerator):
            accelerator.log(values, step=images, log_kwargs={"tensorboard": {"walltime": time}})


def end(accelerator: Accelerator) -> None:
    """Tell the tracker that no more comes."""
    with _dropped_if_it_fails(accelerator):
        for tracker in accelerator.trackers:
            tracker.finish()


@contextmanager
def _dropped_if_it_fails(accelerator: Accelerator) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a service's own, of which the log needs nothing
        (asked,) = accelerator.log_with
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        print(
            f"chexdist: run.tracker {asked}: {why}; training and {layout.LOG} continue without it", flush=True
        )
        accelerator.trackers.clear()
