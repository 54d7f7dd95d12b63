"""Decides what features of generated images are measured against: those of held-out real images.

Training images, measured against the same, are the real baseline.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, Split
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Collectives
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
        chosen = self.split.label[self.samples] == label
        return type(self)(self.split, self.samples[chosen], self.features[torch.from_numpy(chosen)])


@dataclass(frozen=True)
class Reference:
    """Held-out images, which generated ones should resemble, and training images, which do."""

    held_out: Embedded
    training: Embedded

    def only(self, label: int) -> Self:
        """What images of one class are measured against."""
        return type(self)(self.held_out.only(label), self.training.only(label))

    def measure(self, metric: MetricSpec, generated: Tensor) -> Estimate:
        """A metric of features [n, D]; raises as its `measure` does."""
        held_out = self.held_out
        estimate: Estimate = metric.formula.measure(held_out.features, generated, held_out.patients)
        return estimate

    def real_baseline(self, metric: MetricSpec) -> Estimate:
        """A metric of the training images; raises as its `measure` does."""
        ours, theirs = self.held_out, self.training
        estimate: Estimate = metric.formula.measure(
            ours.features, theirs.features, ours.patients, theirs.patients
        )
        return estimate


class RealImages:
    """Reads and embeds a shard directory's images, each rank its share of them."""

    def __init__(
        self, manifest: Manifest, extractor: Extractor, device: torch.device, collectives: Collectives
    ) -> None:
        self.manifest, self.extractor, self.device = manifest, extractor, device
        self.collectives = collectives

    def images(self, split: str, samples: np.ndarray | range) -> Tensor:
        """Real images [n, 1, S, S] in [-1, 1] of these sample numbers, on the CPU."""
        reader = SampleReader(self.manifest, split, memory_mib=0)
        pixels = torch.from_numpy(reader.read([int(number) for number in samples]).astype(np.int32))
        return to_unit_range(pixels, self.manifest.bits, torch.get_default_dtype())

    def reference(self, split: str, shown: np.ndarray) -> Reference:
        """All images of a held-out split, and the training images of these sample numbers."""
        everything = np.arange(len(self.manifest.splits[split]))
        return Reference(self._embed(split, everything), self._embed("train", shown))

    def shown(self, limit: int) -> np.ndarray:
        """The sample numbers of at most `limit` training images, from all over the split."""
        total = len(self.manifest.splits["train"])
        return np.linspace(0, total - 1, min(total, limit)).astype(int)

    def _embed(self, split: str, samples: np.ndarray) -> Embedded:
        parts = [torch.empty(0, self.extractor.dim)]
        for rows in chunks(self.collectives.rows_of_rank(len(samples))):
            images = self.images(split, samples[rows])
            parts.append(self.extractor.features(images.to(self.device)).cpu())
        features = self.collectives.all_gather(torch.cat(parts))
        return Embedded(self.manifest.splits[split], samples, features)

    def mean_features(self, samples: np.ndarray) -> Tensor:
        """Features [1, D] of the mean of these training images, on the CPU."""
        size = self.manifest.size
        total = torch.zeros(1, size**2, dtype=torch.float64)
        for rows in chunks(self.collectives.rows_of_rank(len(samples))):
            total += self.images("train", samples[rows]).double().flatten(1).sum(0)
        mean = (self.collectives.all_reduce(total) / len(samples)).view(1, 1, size, size)
        return self.extractor.features(mean.to(self.device)).cpu()
