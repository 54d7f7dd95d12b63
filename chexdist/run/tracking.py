"""Shows the log in an experiment tracker too, through Accelerate. Rank 0 alone calls these.

The log is the truth: every start gives a fresh tracker all of it, so the two never differ, wherever the run
was truncated, and a tracker that is switched on late has the whole history. Services that keep every start,
as Weights & Biases, show each as a run of its own, under the name of the run directory."""

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
    accelerator.init_trackers(project, init_kwargs=settings)
    if (run / layout.LOG).exists():
        track(accelerator, read_log(run))


def track(accelerator: Accelerator, metrics: list[Metric]) -> None:
    """Add these values, each at its number of images and its time; without a tracker, nothing."""
    for metric in metrics:
        name = metric.name
        if accelerator.trackers and accelerator.trackers[0].name in NO_FOLDERS:
            name = name.replace("/", ".")
        accelerator.log(
            {name: metric.value},
            step=metric.images,
            log_kwargs={"tensorboard": {"walltime": metric.time}},
        )


def end(accelerator: Accelerator) -> None:
    """Tell the tracker that no more comes."""
    for tracker in accelerator.trackers:
        tracker.finish()
