"""Run directories made without training, and what `chexdist generate` wrote of them."""

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
import yaml
from accelerate import Accelerator

from chexdist.config.load import load_config
from chexdist.config.rules import frozen
from chexdist.data.manifest import read_manifest
from chexdist.run import checkpoint
from chexdist.training.networks import Gan


def make_run(folder: Path, shards: Path, name: str, conditional: bool, spoil: Callable[[Gan], None]) -> Path:
    """A run directory with two checkpoints of fresh weights, after `spoil` has changed them."""
    settings = [
        "--data.shards",
        str(shards),
        "--model.size",
        "32",
        "--model.width",
        "4",
        "--model.latent",
        "8",
    ]
    settings += ["--model.conditional", str(conditional).lower(), "--train.group", "4"]
    config = load_config(name, settings)
    manifest = read_manifest(str(shards))
    alone = SimpleNamespace(device=torch.device("cpu"), prepare_model=lambda network: network)
    gan = Gan(config, manifest.class_counts("train"), cast(Accelerator, alone))
    classes = dict(zip(manifest.classes, manifest.class_counts("train"), strict=True))
    for t in (1, 2):
        with torch.no_grad():
            for weight in gan.ema.parameters():
                weight.mul_(1.5)
            spoil(gan)
        checkpoint.save(
            folder,
            checkpoint.snapshot(gan.state()),
            checkpoint.State(t, 64 * t, frozen(config), manifest.digest, classes, {}),
        )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def index(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))
