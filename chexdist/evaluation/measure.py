"""Decides what `chexdist evaluate` measures of generated images, in one pass over them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.evaluation.features import FeatureNumbers
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.labels import LabelNumbers
from chexdist.evaluation.near_copies import NearCopies
from chexdist.evaluation.part import NO_CLASSES, Observed, Part
from chexdist.evaluation.random_pairs import PairNumbers
from chexdist.evaluation.reference import RealImages, chunks
from chexdist.evaluation.source import Source
from chexdist.metrics import METRICS
from chexdist.metrics.extractor import Extractor
from shards.progress import Progress


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is measured: `samples` generated images, as many again of each class; `pairs` in all."""

    split: str
    samples: int
    pairs: int
    seed: int


def evaluate(
    source: Source,
    manifest: Manifest,
    extractors: list[Extractor],
    options: EvaluationOptions,
    device: torch.device,
) -> Findings:
    """Every metric of one source of images, beside real ones; by class for those that have classes.

    All that is drawn is a function of the seed. Memory: what the parts keep of each image.

    Raises:
        WorkError: a shard is damaged, or the images can't be made.
    """
    findings = Findings(source.config, source.images, source.brought_from)
    real = RealImages(manifest, device, Collectives(World(0, 1, 0, 0), timeout_seconds=0))
    parts: list[Part] = [
        FeatureNumbers(real, extractor, options.split, options.samples) for extractor in extractors
    ]
    parts.append(LabelNumbers(real, options.split))
    parts.append(NearCopies(real))
    for part in parts:
        part.prepare()
    for part, observed in zip(parts, observe(source, manifest.classes, options.samples, parts), strict=True):
        part.conclude(observed, findings)
    PairNumbers(source, real, options.split, options.pairs, options.seed, device).measure(findings)
    if not source.conditional:
        for each in manifest.classes:
            for name in (name for name, spec in METRICS.items() if spec.few_images):
                findings.refuse(f"{name}/{each}", NO_CLASSES)
    return findings


def observe(source: Source, classes: tuple[str, ...], samples: int, parts: list[Part]) -> list[Observed]:
    """What each part keeps of `samples` images of any class, and, where there are classes, of each."""
    whole, rows = _pass(source, None, "any class", samples, parts)
    labels = source.labels(rows)
    by_class: list[dict[str, Tensor]] = [{} for _ in parts]
    for label, name in enumerate(classes) if source.conditional else ():
        kept, _ = _pass(source, label, f"class {name}", samples, parts)
        for each, rows_kept in zip(by_class, kept, strict=True):
            each[name] = rows_kept
    return [Observed(each, labels, of_class) for each, of_class in zip(whole, by_class, strict=True)]


def _pass(
    source: Source, label: int | None, what: str, samples: int, parts: list[Part]
) -> tuple[list[Tensor], range]:
    available = source.available(label)
    rows = range(samples if available is None else min(samples, available))
    kept: list[list[Tensor]] = [[] for _ in parts]
    with Progress(f"measuring generated images of {what}", len(rows), "images") as progress:
        for chunk in chunks(rows):
            images = source.draw(chunk, label)
            for each, part in zip(kept, parts, strict=True):
                each.append(part.observe(images))
            progress.advance(len(chunk))
    return [torch.cat(each) for each in kept], rows
