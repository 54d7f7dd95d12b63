"""`quality`: KID of the notebook's GAN of a run's kind and of the run itself after as many images.

The run is one that has been trained; its `metrics.jsonl` holds its side. The notebook's networks are trained
here and now on the same shards, in the same order and in batches of the same size, and measured as the run
was, after every `eval.every` images.
"""

import copy
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.notebook import Dcgan, Notebook, WganClip, critic, dense_critic, dense_generator, generator
from benchmarks.step import ALONE, loop_of
from chexdist.config.load import load_config
from chexdist.config.tree import Config
from chexdist.data.loader import Batch, batches, to_unit_range
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed import noise
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.noise import Draw
from chexdist.errors import UserError
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.gan.models.dcgan import channels
from chexdist.metrics import METRICS
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.protocol import Protocol
from chexdist.metrics.value import Metric
from chexdist.run import layout
from chexdist.run.log import read_log
from chexdist.training.networks import spec_of
from chexdist.training.preflight import check_settings
from shards.progress import Progress

KID = "kid_x1000"
COLOURS, SAMPLED = 3, 64
"""Channels of an image, and images drawn at once, as notebooks have them."""
BETAS, WGAN_BETAS, WGAN_N_CRITIC = (0.5, 0.999), (0.0, 0.9), 5
COLUMNS = ("chexdist", "notebook", "ratio")
NOTES = (
    "Each side is one training with one seed; intervals are those of the measurement, by patients of the "
    + "reference split. Same shards, order, latents and number of generated images; the same batch size, "
    + "but for a residual run, beside which is the notebook's DCGAN in batches of the shipped dcgan; the "
    + "lower the better.",
    "notebook: as found, gray images in three equal channels, batch norm (WGAN-GP: in the generator only), "
    + "a WGAN's critic trained five times a step of the generator, no classes, no EMA; drawn in training "
    + "mode and in evaluation mode, of which the better counts, each time.",
    "chexdist: the configuration of the run.",
)


@dataclass(frozen=True)
class Setting:
    """The run that is compared with, its shards, and after how many images to end; 0: where the run ended."""

    run: Path
    shards: str
    images: int = 0


@dataclass(frozen=True)
class Result:
    """KID of both sides by the number of images seen."""

    config: Config
    protocol: str
    ours: dict[int, Metric]
    theirs: dict[int, Estimate]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how.

        No number depends on how busy the machine was.
        """
        rows = []
        for images, found in self.theirs.items():
            mine = self.ours[images]
            cells = [f"{each.value:,.0f} [{each.low:,.0f}, {each.high:,.0f}]" for each in (mine, found)]
            rows.append({"name": f"{images:,} images", "cells": [*cells, f"{mine.value / found.value:.2f}"]})
        return {
            "benchmark": "quality",
            **about,
            "busy": False,
            "unit": f"{KID}: {METRICS[KID].formula.UNIT} [95 %]",
            "settings": {
                "model": self.config.model.name,
                "size": self.config.model.size,
                "batch": self.config.train.batch,
                "generated": self.config.eval.samples,
                "reference": self.config.eval.split,
                "protocol": self.protocol,
            },
            "columns": list(COLUMNS),
            "rows": rows,
            "notes": list(NOTES),
            "values": {str(images): found.value for images, found in self.theirs.items()},
        }


def measure(setting: Setting) -> Result:
    """Train the notebook's side, and measure it.

    Raises:
        UserError: the run was trained on other shards, measured under another protocol, or never.
    """
    config, manifest, ours = _compared(setting)
    extractor = load_extractor(config.eval.extractor)
    real = RealImages(manifest, torch.device("cpu"), Collectives(ALONE, 60))
    reference = real.reference(extractor, config.eval.split, real.shown(config.eval.samples))
    protocol = Protocol.of(
        extractor,
        image_size=manifest.size,
        reference=manifest.reference,
        reference_split=config.eval.split,
        n=config.eval.samples,
    ).hash
    if protocol != next(iter(ours.values())).protocol:
        raise UserError(
            f"{setting.run} was measured under another protocol than {protocol}: evaluate it afresh"
        )
    torch.manual_seed(config.train.seed)
    found = _as_found(config)
    loop = _loop(found)
    theirs = {0: _kid(loop, config, extractor.features, reference)}
    total = max(ours)
    with Progress("quality", total, "images") as progress, closing(_data(found, manifest)) as data:
        for t in range(-(-total // found.train.batch)):
            pixels, _ = next(data)
            loop.batch(t, to_unit_range(pixels, manifest.bits, torch.float32).expand(-1, COLOURS, -1, -1))
            progress.advance(found.train.batch)
            images = (t + 1) * found.train.batch
            if images in ours:
                theirs[images] = _kid(loop, config, extractor.features, reference)
    return Result(config, protocol, ours, theirs)


def _compared(setting: Setting) -> tuple[Config, Manifest, dict[int, Metric]]:
    """The run's configuration, its shards, and its KID by images seen."""
    log = setting.run / layout.LOG
    if not log.is_file():
        raise UserError(f"--run {setting.run}: there is no {layout.LOG}")
    config = load_config(str(setting.run / layout.CONFIG), ["--data.shards", setting.shards])
    manifest = read_manifest(config.data.shards, config.data)
    check_settings(config, manifest)
    measured = {metric.images: metric for metric in read_log(setting.run) if metric.name == KID}
    ours = {
        images: found for images, found in measured.items() if not setting.images or images <= setting.images
    }
    if len(ours) < 2:
        raise UserError(f"--run {setting.run}: KID was not measured up to {setting.images or 'its end'}")
    return config, manifest, ours


def _as_found(config: Config) -> Config:
    """What the notebook of this kind has for itself: Adam's betas after Radford 2016, and batch norm in the
    critic of a DCGAN, which stands beside a residual run too; of a WGAN the betas of Gulrajani 2017 and five
    batches for the critic a step of the generator.
    """
    model, train = config.model, config.train
    changed: dict[str, Any] = {}
    if model.name in ("dcgan", "residual"):
        changed = {"norm": "batch"}
    if model.name == "residual":
        shipped = load_config("dcgan", [])
        changed |= {"name": "dcgan", "width": shipped.model.width}
        train = train.model_copy(update={"batch": shipped.train.batch})
    betas = BETAS
    if model.name == "wgan":
        betas, train = WGAN_BETAS, train.model_copy(update={"n_critic": WGAN_N_CRITIC})
    adam = config.optim.critic.model_copy(update={"betas": betas})
    optim = config.optim.model_copy(update={"critic": adam})
    network = model.model_copy(update=changed)
    return config.model_copy(update={"model": network, "train": train, "optim": optim})


def _loop(found: Config) -> Notebook:
    """The notebook's networks and loop, drawn from torch's random state."""
    device, model = torch.device("cpu"), found.model
    networks: tuple[nn.Module, nn.Module]
    if model.name == "vanilla":
        kind: type[Notebook] = Dcgan
        networks = dense_generator(model.latent, COLOURS, model.size), dense_critic(COLOURS, model.size)
    elif found.clip.name == "weight":
        kind, widths = WganClip, channels(spec_of(found, classes=0))
        networks = generator(widths, model.latent, COLOURS), critic(widths, COLOURS, True)
    else:
        return loop_of(found, COLOURS, device)
    return kind(*networks, model.latent, device, found.optim.critic.betas, found.train.n_critic)


def _data(config: Config, manifest: Manifest) -> Generator[Batch, None, None]:
    """The run's batches from the first on."""
    return batches(
        SampleReader(manifest, "train", config.data.memory),
        seed=config.train.seed,
        window=config.data.window,
        batch=config.train.batch,
        share=range(config.train.batch),
        first=0,
        workers=0,
    )


@torch.no_grad()
def _kid(
    loop: Notebook, config: Config, features: Callable[[Tensor], Tensor], reference: Reference
) -> Estimate:
    """KID of the run's sample latents through a copy of the generator, in its better mode."""
    rows = range(config.eval.samples)
    latents = torch.from_numpy(
        noise.normal(config.train.seed, Draw.SAMPLE_LATENT, 0, rows, config.model.latent)
    )
    found = []
    for training in (True, False):
        network = copy.deepcopy(loop.generator).train(training)
        drawn = [network(part[:, :, None, None]) for part in latents.float().split(SAMPLED)]
        found.append(reference.measure(METRICS[KID], features(torch.cat(drawn).mean(1, keepdim=True))))
    return min(found, key=lambda estimate: estimate.value)
