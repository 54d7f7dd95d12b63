"""Which number sees which fault: images made of real X-rays with a known fault, measured as a run's are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, Split, read_manifest
from chexdist.data.reader import SampleReader
from chexdist.errors import UserError
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.measure import EvaluationOptions, evaluate
from chexdist.metrics import METRICS
from chexdist.metrics.extractor import load_extractor

COLUMNS = (
    "kid_x1000",
    "precision_k5",
    "recall_k5",
    "density_k5",
    "coverage_k5",
    "feature_distance",
    "ms_ssim_own_pairs_256px",
    "label_accuracy",
    "mirrored",
    "near_copy_rate",
)
"""The metrics that are shown, in this order, where an evaluation gives them."""
HELD_OUT, REAL = "held-out X-rays", "real X-rays"
NOTES = (
    "Each cell: the value and its 95 % interval, in bold where this lies apart from the interval of as many "
    + "real X-rays.",
    f"{REAL}: training images against what each number's protocol says. Held-out X-rays are fewer, "
    + "and are measured beside as few real ones, which are not shown.",
)


@dataclass(frozen=True)
class Setting:
    """The shards, how many images are made, and the split that is the reference; another one is held out."""

    shards: str
    images: int = 512
    reference: str = "val"
    held_out: str = "test"
    extractor: str = "efficientnet-lite0"


TINY = Setting("", images=64, extractor="random-conv")


@dataclass(frozen=True)
class Images:
    """Images [n, 1, S, S] in [-1, 1] and the class [n] that each is said to be of."""

    pixels: Tensor
    classes: Tensor


Plant = Callable[[Images, int], Images]
"""n images with a fault, of training images [N, 1, S, S] in an order of the seed."""


def _over_and_over(images: Images, n: int, different: int) -> Images:
    """Each of `different` images as often as the others, in random order, so that a pair may be of one."""
    chosen = (torch.arange(n) % different)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    return Images(images.pixels[chosen], images.classes[chosen])


def _swapped(images: Images, n: int) -> Images:
    return Images(images.pixels[:n], images.classes.max() - images.classes[:n])


def _mean(images: Images, n: int) -> Images:
    return Images(images.pixels.mean(0, keepdim=True).expand(n, -1, -1, -1), images.classes[:n])


FAULTS: dict[str, Plant] = {
    "50 training images over and over": lambda images, n: _over_and_over(images, n, 50),
    "5 training images over and over": lambda images, n: _over_and_over(images, n, 5),
    "training images, mirrored": lambda images, n: Images(images.pixels[:n].flip(3), images.classes[:n]),
    "training images, classes swapped": _swapped,
    "the mean image": _mean,
}


class PlantedSource:
    """Images with a fault in place of a generator's."""

    config = None
    images = 0
    conditional = True
    brought_from = None

    def __init__(self, images: Images) -> None:
        self._images = images

    def draw(self, rows: range, label: int | None) -> Tensor:
        return self._images.pixels[self._chosen(label)[list(rows)]]

    def labels(self, rows: range) -> Tensor:
        return self._images.classes[list(rows)]

    def available(self, label: int | None) -> int | None:
        return len(self._chosen(label))

    def _chosen(self, label: int | None) -> Tensor:
        classes = self._images.classes
        return torch.arange(len(classes)) if label is None else torch.nonzero(classes == label).flatten()


@dataclass(frozen=True)
class Result:
    """What was found of each fault."""

    setting: Setting
    found: dict[str, Findings]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how.

        No number depends on how busy the machine was.
        """
        values = {
            name: {metric.name: metric.to_dict() for metric in findings.metrics}
            for name, findings in self.found.items()
        }
        columns = [name for name in COLUMNS if any(name in metrics for metrics in values.values())]
        shown = {*columns, *(f"{name}/real" for name in columns)}
        real = values[next(iter(FAULTS))]
        return {
            "benchmark": "planted",
            **about,
            "busy": False,
            "unit": "metrics of images with a known fault",
            "settings": {
                "images": self.setting.images,
                "reference": self.setting.reference,
                "extractor": self.setting.extractor,
            },
            "columns": [METRICS[name].label for name in columns],
            "rows": [
                {"name": REAL, "cells": [_cell(real, f"{column}/real") for column in columns]},
                *(
                    {"name": name, "cells": [_cell(metrics, column) for column in columns]}
                    for name, metrics in values.items()
                ),
            ],
            "notes": list(NOTES),
            "values": {
                fault: {name: metric for name, metric in metrics.items() if name in shown}
                for fault, metrics in values.items()
            },
            "refused": {name: findings.refused for name, findings in self.found.items()},
        }


def _cell(metrics: dict[str, Any], name: str) -> str:
    """Value and interval, in bold where it lies apart from that of real X-rays."""
    if name not in metrics:
        return "–"
    value, real = metrics[name], metrics.get(f"{name}/real")
    if real is None or value["low"] is None or real["low"] is None:
        return _text(value)
    apart = value["low"] > real["high"] or value["high"] < real["low"]
    return f"**{_text(value)}**" if apart else _text(value)


def _text(metric: dict[str, Any]) -> str:
    interval = [_rounded(metric[key]) for key in ("low", "high") if metric[key] is not None]
    return _rounded(metric["value"]) + (f" [{', '.join(interval)}]" if interval else "")


def _rounded(number: float) -> str:
    return (
        f"{number:.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
    )


def measure(setting: Setting) -> Result:
    """Make the images and evaluate them.

    Raises:
        UserError: the shards lack a split, or have too few images.
        WorkError: a shard is damaged.
    """
    manifest = read_manifest(setting.shards)
    for name in ("train", setting.reference, setting.held_out):
        if not len(manifest.splits.get(name, ())):
            raise UserError(f"{setting.shards} has no split {name}: planted needs train, val and test")
    training = _images(manifest, manifest.splits["train"])
    extractor = load_extractor(setting.extractor)
    options = EvaluationOptions(setting.reference, setting.images, setting.images, seed=0)
    found = {}
    for name, images in {
        HELD_OUT: _images(manifest, manifest.splits[setting.held_out]),
        **{name: plant(training, setting.images) for name, plant in FAULTS.items()},
    }.items():
        found[name] = evaluate(PlantedSource(images), manifest, [extractor], options, torch.device("cpu"))
    return Result(setting, found)


def _images(manifest: Manifest, split: Split) -> Images:
    """All of a split's, in an order of a fixed seed."""
    order = np.random.default_rng(0).permutation(len(split))
    pixels = SampleReader(manifest, split.name, memory_mib=0).read(order.tolist()).astype(np.int32)
    drawn = to_unit_range(torch.from_numpy(pixels), manifest.bits, torch.float32)
    return Images(drawn, torch.from_numpy(split.label[order]))
