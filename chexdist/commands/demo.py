"""`chexdist demo`: phantom DICOM files -> shards -> four GANs over two processes each -> metrics -> report.

It only types what a user would type: every step is a command of its own, shown before it runs, and a second
call skips what is done.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

from chexdist.errors import UserError, WorkError
from chexdist.run import layout

GANS = {"vanilla": 40_000, "wgan-gp": 16_000, "dcgan": 27_200, "residual": 9_600}
"""What is trained, and on how many images: those of the first take the least time and teach the least."""
PHANTOMS, PER_CLASS, SIZE = 480, 200, 32
SAMPLES = 128
LAUNCH = "accelerate/two-cpu-processes.yaml"


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError` or `WorkError` when a step failed."""
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: choose another name")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed} is below 0")
    out.mkdir(parents=True, exist_ok=True)
    shards, runs = _shards(out, options.seed), [out / "runs" / name for name in GANS]
    for name, run_directory in zip(GANS, runs, strict=True):
        _train(name, shards, run_directory, options.seed)
        _call("-m", "chexdist", "evaluate", run_directory, "--samples", SAMPLES, "--pairs", SAMPLES)
    report = out / layout.REPORT
    _call("-m", "chexdist", "report", *runs, "--out", report)
    print(f"\nOpen {report} in a browser: the GANs side by side.")
    print(
        f"How they learned: {layout.animation(out / 'runs' / '*')}; "
        f"real ones: {layout.real_samples(runs[-1])}"
    )
    return 0


def _shards(out: Path, seed: int) -> Path:
    """Phantom radiographs in VinBigData's layout, some of them JPEG 2000, as shards."""
    phantom, shards = out / "vinbigdata", out / "shards"
    if not (phantom / "train.csv").exists():
        layout = ("--layout", "vinbigdata", "--images", PHANTOMS, "--size", 4 * SIZE, "--seed", seed)
        _call("-m", "shards", "phantom", "--out", phantom, *layout)
    if not (shards / "manifest.json").exists():
        draw = (
            "--size",
            SIZE,
            "--per-class",
            PER_CLASS,
            "--split",
            "train=0.6,val=0.2,test=0.2",
            "--seed",
            seed,
        )
        labels = ("--labels", phantom / "train.csv")
        _call("-m", "shards", "build", phantom / "train", *labels, "--out", shards, *draw)
    made = json.loads((shards / "manifest.json").read_text())["build"]["seed"]
    if made != seed:
        raise UserError(f"--out {out} was made with --seed {made}, not {seed}: choose another folder")
    return shards


def _train(name: str, shards: Path, run_directory: Path, seed: int) -> None:
    """One GAN over two CPU processes; its status file is read: launchers turn every exit code into 1."""
    settings = {
        "--config": name,
        "--data.shards": shards,
        "--run.dir": run_directory,
        "--model.size": SIZE,
        "--model.width": 16,
        "--train.images": GANS[name],
        "--train.seed": seed,
        "--eval.every": GANS[name] // 4,
        "--eval.samples": SAMPLES,
        # so short a training needs larger steps than some shipped configurations have, and an average that
        # is long for its length: KID of a shorter one depends on the moment
        "--optim.generator.lr": 0.0005,
        "--optim.critic.lr": 0.0005,
        "--ema.halflife": 3000,
        "--ema.ramp": 0.15,
    }
    words = [word for setting in settings.items() for word in setting]
    with resources.as_file(resources.files("chexdist.launch") / LAUNCH) as launch:
        launcher = ("-m", "accelerate.commands.launch", "--config_file", launch)
        _call(*launcher, "-m", "chexdist", "train", *words, OMP_NUM_THREADS="1")
    status = json.loads((run_directory / layout.STATUS).read_text())
    if status["state"] == "running":  # the launcher has ended, so nobody can be
        raise WorkError(
            f"{run_directory} was not finished: its processes ended without a message, as when they are "
            "killed for want of memory; the same command resumes"
        )
    if status["state"] != "done":
        raise WorkError(f"{run_directory} is {status['state']}: {status['cause']}")


def _call(*words: object, **variables: str) -> None:
    arguments = [str(word) for word in words]
    print("$ python", " ".join(arguments), flush=True)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true"} | variables
    if subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode:
        raise WorkError(f"this step of the demo failed: python {' '.join(arguments)}")
