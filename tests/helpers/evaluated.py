"""Run directories of untrained networks that `chexdist evaluate` measures, and what one call of it left."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from chexdist.__main__ import main
from chexdist.config.load import load_config
from chexdist.config.rules import frozen
from chexdist.data.manifest import read_manifest
from chexdist.distributed.world import World
from chexdist.run import checkpoint
from chexdist.run.directory import RunDirectory
from chexdist.run.provenance import machine
from chexdist.training.networks import Gan

ALONE = World(0, 1, 0, 0)
SMALL = ("--model.size=32", "--model.width=4", "--model.latent=8", "--train.batch=4", "--train.group=2")
OPTIONS = ("--samples", "64", "--pairs", "48", "--extractor", "random-conv")
FEW = ("--pairs", "16")
"""Too few for each class's pair metrics, but quick."""
IMAGES = (40, 80)


def make_gan(shards: Path, run: Path, conditional: bool) -> Gan:
    settings = [*SMALL, f"--data.shards={shards}", f"--run.dir={run}", f"--model.conditional={conditional}"]
    settings += ["--eval.extractor=random-conv", "--eval.samples=64"]
    gan = Gan(
        load_config("dcgan", settings),
        read_manifest(str(shards)).class_counts("train"),
        Accelerator(cpu=True),
    )
    with torch.no_grad():  # else the average would be the weights, and most of an untrained image is gray
        for number, parameter in enumerate(gan.ema.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.05 * noise)
    return gan


def make_run(shards: Path, run: Path, conditional: bool) -> Path:
    """What `train` leaves, without training: two checkpoints of one generator."""
    manifest, gan = read_manifest(str(shards)), make_gan(shards, run, conditional)
    directory = RunDirectory(run)
    (run / "samples").mkdir(parents=True)
    directory.describe(gan.config, manifest, ALONE, None)
    directory.status("running", IMAGES[-1])
    (run / "metrics.jsonl").write_text("")
    classes = dict(zip(manifest.classes, manifest.class_counts("train"), strict=True))
    for images in IMAGES:
        settings = frozen(gan.config)
        state = checkpoint.State(images // 4, images, settings, manifest.digest, classes, machine(ALONE))
        checkpoint.save(run, checkpoint.snapshot(gan.state()), state)
    return run


@dataclass
class Evaluated:
    """What one call of the command left."""

    run: Path
    folder: Path
    out: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "evaluation.json").read_text()))

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return {metric["name"]: metric for metric in self.document["metrics"]}

    @property
    def numbers(self) -> list[dict[str, Any]]:
        return [{**metric, "time": 0} for metric in self.document["metrics"]]


def evaluate(run: Path, *words: str, images: int = 80) -> Evaluated:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["evaluate", str(run), *OPTIONS, *words])
    assert code == 0 and "features of real images, " in err.getvalue(), err.getvalue()
    folder = next(line for line in out.getvalue().splitlines() if line.startswith(str(run / "evaluations")))
    assert Path(folder).name.startswith(f"images-{images}-val-s")
    return Evaluated(run, Path(folder), out.getvalue())
