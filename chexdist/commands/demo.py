"""`chexdist demo`: phantom X-rays as DICOM -> shards -> three GANs, each over two processes -> a table of metrics.

It only types what a user would type: every step is a command of its own, shown before it runs, and a second call skips
what is done.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chexdist.errors import UserError, WorkError
from chexdist.metrics.kid import NAME
from chexdist.metrics.log import read_log
from chexdist.metrics.value import Metric

GANS = ("vanilla", "wgan-gp", "dcgan")
PATIENTS, SIZE, IMAGES = 160, 64, 12_000
LAUNCH = "accelerate/two-cpu-processes.yaml"


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError` or `WorkError` when a step failed."""
    out = Path(options.out)
    phantom, shards = out / "phantom", out / "shards"
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: choose another name")
    out.mkdir(parents=True, exist_ok=True)
    if not (phantom / "labels.csv").exists():
        _call("-m", "shards", "phantom", "--out", phantom, "--patients", PATIENTS, "--size", 2 * SIZE)
    if not (shards / "manifest.json").exists():
        labels = phantom / "labels.csv"
        split = "train=0.6,val=0.2,test=0.2"
        _call(
            "-m",
            "shards",
            "build",
            phantom,
            "--labels",
            labels,
            "--out",
            shards,
            "--size",
            SIZE,
            "--split",
            split,
        )
    for name in GANS:
        _train(name, shards, out / "runs" / name)
    _show({name: read_log(out / "runs" / name) for name in GANS})
    print(
        f"Look at the generated X-rays: {out}/runs/*/samples/images-*.png; real ones: {out}/runs/dcgan/samples/real.png"
    )
    return 0


def _train(name: str, shards: Path, run_directory: Path) -> None:
    """One GAN over two CPU processes; the status file says how it ended, since launchers turn every exit code into 1."""
    settings = {
        "--config": name,
        "--data.shards": shards,
        "--run.dir": run_directory,
        "--model.width": 16,
        "--train.images": IMAGES,
        "--eval.every": IMAGES // 2,
        "--eval.samples": 256,
    }
    words = [word for setting in settings.items() for word in setting]
    with resources.as_file(resources.files("chexdist.launch") / LAUNCH) as launch:
        _call("-m", "accelerate.commands.launch", "--config_file", launch, "-m", "chexdist", "train", *words)
    status = json.loads((run_directory / "status.json").read_text())
    if status["state"] != "done":
        raise WorkError(f"{run_directory} is {status['state']}: {status['cause']}")


def _call(*words: object) -> None:
    arguments = [str(word) for word in words]
    print("$ python", " ".join(arguments), flush=True)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode:
        raise WorkError(f"this step of the demo failed: python {' '.join(arguments)}")


def _show(logs: dict[str, list[Metric]]) -> None:
    """KID before and after training, beside its floor and the score of a generator that always draws the mean image."""
    table = Table(title=f"{NAME} on held-out phantom patients, 95 % interval; lower is better")
    for column in ("GAN", "images", "untrained", "trained", "mean image", "real X-rays (floor)"):
        table.add_column(column, justify="left" if column == "GAN" else "right")
    for name, metrics in logs.items():
        found = {
            kind: [metric for metric in metrics if metric.name == NAME + kind]
            for kind in ("", "/mean_image", "/real")
        }
        measured = found[""]
        if not measured:
            raise WorkError(f"the run {name} has no {NAME}: its log says why")
        ends = (measured[0], measured[-1], found["/mean_image"][0], found["/real"][0])
        table.add_row(name, str(measured[-1].images), *(_with_interval(metric) for metric in ends))
    Console(width=120).print(table)


def _with_interval(metric: Metric) -> str:
    return f"{metric.value:.0f} [{metric.low:.0f}, {metric.high:.0f}]"
