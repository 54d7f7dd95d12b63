"""Decides what features of generated images are measured against: those of held-out real images.

Training images, measured against the same, are the real baseline.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, Split
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Collectives
from chexdist.evaluation import kept_features
from chexdist.metrics import MetricSpec
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.extractor import Extractor

CHUNK = 64  # images in memory at once


def chunks(rows: range) -> list[range]:
    """A range in pieces of CHUNK, in order; the last may be shorter."""
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


@dataclass(frozen=True)
class Embedded:
    """Images of one split: their sample numbers [n] and features [n, D], on the CPU."""

    split: Split
    samples: np.ndarray
    features: Tensor

    @property
    def patients(self) -> list[str]:
        return self.split.patient[self.samples].tolist()

    def only(self, label: int) -> Self:
        """Those of one class."""
        return self.where(self.split.label[self.samples] == label)

    def where(self, chosen: np.ndarray) -> Self:
        """Those of a bool mask [n], or of row numbers."""
        return type(self)(self.split, self.samples[chosen], self.features[torch.from_numpy(chosen)])

    def halves(self) -> tuple[Self, Self]:
        """Two parts of as many images each, no patient in both: each patient, in order, joins the smaller."""
        patients = self.split.patient[self.samples]
        sizes, side = [0, 0], {}
        for patient, count in zip(*_counted(patients), strict=True):
            side[patient] = int(sizes[1] < sizes[0])
            sizes[side[patient]] += count
        half = np.array([side[patient] for patient in patients.tolist()], dtype=int)
        first, second = (np.flatnonzero(half == number)[: min(sizes)] for number in (0, 1))
        return self.where(first), self.where(second)


def _counted(patients: np.ndarray) -> tuple[list[str], list[int]]:
    """The patients in order of first appearance, and how many images each has."""
    names, first, counts = np.unique(patients, return_index=True, return_counts=True)
    order = np.argsort(first)
    return names[order].tolist(), counts[order].tolist()


@dataclass(frozen=True)
class Reference:
    """Held-out images, which generated ones should resemble, and training images, which do.

    training: as many as there are generated ones; all_training: all, or the same where nothing needs all.
    """

    held_out: Embedded
    training: Embedded
    all_training: Embedded

    def only(self, label: int) -> Self:
        """What images of one class are measured against."""
        return type(self)(*(each.only(label) for each in (self.held_out, self.training, self.all_training)))

    def measure(self, metric: MetricSpec, generated: Tensor) -> Estimate:
        """A metric of features [n, D]; raises as its `measure` does.

        Where both sides must be equally many, those that are more are cut.
        """
        real, other = self._sides(metric, len(generated))
        if metric.reference == "training halves":
            generated = generated[: len(other.features)]
        estimate: Estimate = metric.formula.measure(real.features, generated, real.patients)
        return estimate

    def real_baseline(self, metric: MetricSpec, n: int) -> Estimate:
        """A metric of real images in place of n generated ones; raises as its `measure` does."""
        real, other = self._sides(metric, n)
        estimate: Estimate = metric.formula.measure(
            real.features, other.features, real.patients, other.patients
        )
        return estimate

    def _sides(self, metric: MetricSpec, n: int) -> tuple[Embedded, Embedded]:
        """What n generated images are measured against, and the real images that stand in for them."""
        if metric.reference == "training halves":
            first, second = (
                half.where(np.arange(min(n, len(half.samples)))) for half in self.training.halves()
            )
            return first, second
        if metric.reference == "training":
            return self.all_training, self.held_out
        return self.held_out, self.training


class RealImages:
    """Reads and embeds a shard directory's images, each rank its share of them; once, where a `run` directory
    is given that keeps the features.
    """

    def __init__(
        self, manifest: Manifest, device: torch.device, collectives: Collectives, run: Path | None = None
    ) -> None:
        self.manifest, self.device, self.collectives, self.run = manifest, device, collectives, run

    def images(self, split: str, samples: np.ndarray | range) -> Tensor:
        """Real images [n, 1, S, S] in [-1, 1] of these sample numbers, on the CPU."""
        reader = SampleReader(self.manifest, split, memory_mib=0)
        pixels = torch.from_numpy(reader.read([int(number) for number in samples]).astype(np.int32))
        return to_unit_range(pixels, self.manifest.bits, torch.get_default_dtype())

    def reference(
        self, extractor: Extractor, split: str, shown: np.ndarray, train: np.ndarray | None = None
    ) -> Reference:
        """All images of a held-out split, and the training images of the sample numbers `shown`.

        train: those of `all_training`, in order and `shown` among them; by default the same.
        """
        held_out = self._embed(extractor, split, np.arange(len(self.manifest.splits[split])))
        everything = self._embed(extractor, "train", shown if train is None else train)
        training = everything.where(np.searchsorted(everything.samples, shown))
        return Reference(held_out, training, everything)

    def shown(self, limit: int) -> np.ndarray:
        """The sample numbers of at most `limit` training images, from all over the split."""
        total = len(self.manifest.splits["train"])
        return np.linspace(0, total - 1, min(total, limit)).astype(int)

    def _embed(self, extractor: Extractor, split: str, samples: np.ndarray) -> Embedded:
        of = self.manifest.splits[split]
        if self.run is None:
            return Embedded(of, samples, self._features(extractor, split, samples))
        path = kept_features.file_of(self.run, extractor, self.manifest, split, samples)
        found = kept_features.read(path, (len(samples), extractor.dim))
        if all(self.collectives.gather(found is not None)) and found is not None:
            return Embedded(of, samples, found)
        features = self._features(extractor, split, samples)
        if self.collectives.world.is_main:
            kept_features.write(path, features)
        return Embedded(of, samples, features)

    def _features(self, extractor: Extractor, split: str, samples: np.ndarray) -> Tensor:
        """[n, D] on every rank, of which each computes its rows."""
        parts = [torch.empty(0, extractor.dim)]
        for rows in chunks(self.collectives.rows_of_rank(len(samples))):
            images = self.images(split, samples[rows])
            parts.append(extractor.features(images.to(self.device)).cpu())
        return self.collectives.all_gather(torch.cat(parts))

    def mean_features(self, extractor: Extractor, samples: np.ndarray) -> Tensor:
        """Features [1, D] of the mean of these training images, on the CPU."""
        size = self.manifest.size
        total = torch.zeros(1, size**2, dtype=torch.float64)
        for rows in chunks(self.collectives.rows_of_rank(len(samples))):
            total += self.images("train", samples[rows]).double().flatten(1).sum(0)
        mean = (self.collectives.all_reduce(total) / len(samples)).view(1, 1, size, size)
        return extractor.features(mean.to(self.device)).cpu()
