"""Trains each peer in an environment of its own, in chunks, measures its pictures, and tabulates.

What was measured is kept in the working folder, so that an interrupted benchmark continues.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.chunk import DRAWN
from benchmarks.peers.environment import ROOT, python_with
from chexdist.__main__ import main as chexdist
from chexdist.errors import UserError, WorkError
from chexdist.metrics import METRICS
from chexdist.run import layout
from shards.files import replace_file

KID = "kid_x1000"
MEASURED = "measured.json"


@dataclass(frozen=True)
class Entry:
    """A peer: its name in the table, its class as `module:Class`, and the packages of its environment."""

    title: str
    kind: str
    packages: tuple[str, ...] = ()


PEERS = {
    "notebook": Entry("notebook's DCGAN", "benchmarks.peers.notebook_gan:NotebookGan"),
    "monai": Entry(
        "MONAI GanTrainer", "benchmarks.peers.monai_gan:MonaiGan", ("monai==1.6.1", "pytorch-ignite==0.5.5")
    ),
    "lightweight-gan": Entry(
        "lightweight-gan",
        "benchmarks.peers.lightweight:LightweightGan",
        (
            "lightweight-gan==1.2.1",
            *("adabelief-pytorch", "colorama", "einops", "kornia", "kornia-rs", "tabulate", "tqdm"),
        ),
    ),
    "stylegan2-pytorch": Entry(
        "stylegan2-pytorch",
        "benchmarks.peers.stylegan2:StyleGan2",
        (
            "stylegan2-pytorch==1.9.0",
            *("einops", "fire", "kornia", "kornia-rs", "termcolor", "tqdm"),
            "vector-quantize-pytorch==0.1.0",
        ),
    ),
}
NOTES = (
    "One training with one seed each, on the same shards and images in the same order, without classes. "
    + "Time is that of the processor (on a GPU: that of the clock) in training alone. Intervals are by "
    + "patients of the reference split.",
    "Each is drawn in two ways where it has two (the generator and its average; batch norm in training and "
    + "in evaluation mode); the better KID counts.",
    "MONAI: networks, rates and five critic steps a batch of its MedNIST tutorial, without the rotations, "
    + "flips and zooms of its images. lightweight-gan, stylegan2-pytorch: their networks, losses and "
    + "augmentation in a loop of ours, since they refuse a machine without a GPU.",
)


@dataclass(frozen=True)
class Setting:
    """What is trained, on which shards, how far, and where state and pictures stay."""

    names: tuple[str, ...]
    shards: str
    work: Path
    images: int = 20_000
    every: int = 10_000
    batch: int = 8
    pictures: int = 512
    extractor: str = "efficientnet-lite0"
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """One dict for each peer and number of images, as `MEASURED` holds them."""

    setting: Setting
    points: list[dict[str, Any]]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        return {
            "benchmark": "peers",
            **about,
            "unit": f"{KID}: {METRICS[KID].formula.UNIT} [95 %]",
            "settings": {
                "batch": self.setting.batch,
                "generated": self.setting.pictures,
                "seed": self.setting.seed,
                "protocol": self.points[0]["kid"]["protocol"],
            },
            "columns": ["images", "KID", "minutes", "images/s", "drawn from", "width"],
            "rows": [_row(point) for point in self.points],
            "notes": list(NOTES),
            "values": self.points,
        }


def _row(point: dict[str, Any]) -> dict[str, Any]:
    kid, seconds = point["kid"], point["seconds"]
    cells = [
        f"{point['images']:,}",
        f"{kid['value']:,.0f} [{kid['low']:,.0f}, {kid['high']:,.0f}]",
        f"{seconds / 60:,.1f}",
        f"{point['images'] / seconds:.1f}",
        point["drawn_from"],
        point["width"],
    ]
    return {"name": PEERS[point["peer"]].title, "cells": cells}


def setting(options: argparse.Namespace) -> Setting:
    """What the command line asks for."""
    names = tuple(options.peers.split(",")) if options.peers else tuple(PEERS)
    shards = options.shards if "://" in options.shards else os.path.abspath(options.shards)
    if options.tiny:
        return Setting(names, shards, options.work, 16, 8, pictures=64, extractor="random-conv")
    return Setting(names, shards, options.work, options.images or 20_000, options.every)


def check(setting: Setting) -> None:
    """Raises UserError for what can't be trained."""
    for name in setting.names:
        if name not in PEERS:
            raise UserError(f"--peers {name}: there are {', '.join(PEERS)}")
    for name, value in (("images", setting.images), ("every", setting.every)):
        if value < 1 or value % setting.batch:
            raise UserError(f"--{name} {value} must be a multiple of {setting.batch}, the batch of the peers")


def measure(setting: Setting) -> Result:
    """Train and measure what is not yet in the working folder.

    Raises:
        UserError: a setting, or the working folder is of other settings.
        WorkError: a package can't be installed, or a training or an evaluation failed.
    """
    check(setting)
    points: list[dict[str, Any]] = []
    for name in setting.names:
        points += _measured(setting, name)
    return Result(setting, points)


def _stops(setting: Setting) -> Iterator[int]:
    yield from range(setting.every, setting.images, setting.every)
    yield setting.images


def _measured(setting: Setting, name: str) -> list[dict[str, Any]]:
    """The points of one peer; each is written as soon as it is there."""
    entry, folder = PEERS[name], setting.work / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = [
        entry.kind,
        str(setting.shards),
        setting.batch,
        setting.pictures,
        setting.extractor,
        setting.seed,
    ]
    file = folder / MEASURED
    kept: dict[str, Any] = {"settings": facts, "points": {}}
    if file.exists():
        kept = json.loads(file.read_text())
    if kept["settings"] != facts:
        raise UserError(f"{folder} was begun with {kept['settings']}, not {facts}: give another --work")
    points: dict[str, dict[str, Any]] = kept["points"]
    python = ""
    for images in _stops(setting):
        if str(images) in points:
            continue
        if images < max(map(int, points), default=0):
            raise UserError(f"{folder} is past {images} images: give the --every that it was begun with")
        python = python or python_with(entry.packages, setting.work / "environments" / name)
        if not (folder / f"{images}-{DRAWN}").exists():
            _train(setting, entry, python, folder, images)
        points[str(images)] = _evaluated(setting, name, folder, images)
        replace_file(file, json.dumps({"settings": facts, "points": points}, indent=1))
        print(f"{entry.title}: {images} images, {KID} {points[str(images)]['kid']['value']:.0f}", flush=True)
    return [points[str(images)] for images in _stops(setting)]


def _train(setting: Setting, entry: Entry, python: str, folder: Path, images: int) -> None:
    options = {
        "peer": entry.kind,
        "shards": setting.shards,
        "folder": folder.absolute(),
        "images": images,
        "batch": setting.batch,
        "pictures": setting.pictures,
        "seed": setting.seed,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    _run([python, "-m", "benchmarks.peers.chunk", *words], folder / "training.log")


def _evaluated(setting: Setting, name: str, folder: Path, images: int) -> dict[str, Any]:
    """The better of what was drawn, as `chexdist evaluate` measures a folder of pictures."""
    said = json.loads((folder / f"{images}-{DRAWN}").read_text())
    best: dict[str, Any] = {}
    for drawn_from, pictures in said["drawn"].items():
        words = ["--pictures", folder / pictures, "--data.shards", setting.shards, "--images", images]
        words += [
            "--samples",
            setting.pictures,
            "--pairs",
            setting.pictures,
            "--extractor",
            setting.extractor,
        ]
        with (folder / "evaluation.log").open("a") as log, redirect_stdout(log):
            if chexdist(["evaluate", *map(str, words)]):
                raise WorkError(f"{folder / pictures} could not be measured")
        owner = layout.evaluation_of_pictures(folder / pictures)
        (file,) = owner.rglob(layout.EVALUATION)
        found = {each["name"]: each for each in json.loads(file.read_text())["metrics"]}
        if not best or found[KID]["value"] < best["kid"]["value"]:
            best = {"drawn_from": drawn_from, "evaluation": owner.name, "kid": found[KID], "metrics": found}
    seen = {"peer": name, "images": images, "seconds": said["seconds"], "width": said["width"]}
    return seen | {"device": said["device"]} | best


def _run(command: list[str], log: Path) -> None:
    """Raises WorkError with the end of what it wrote where it fails."""
    with log.open("ab") as file:
        ended = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, check=False)
    if ended.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise WorkError(f"{' '.join(command[:4])} failed ({log}): {''.join(last)[:500]}")
