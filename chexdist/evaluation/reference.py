"""Decides what generated images are measured against: held-out real images, and training images for the floor."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, Split
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Together
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.extractor import Extractor
from chexdist.metrics.kid import kid

CHUNK = 64  # images in memory at once


def chunks(places: range) -> list[range]:
    """A range in pieces of CHUNK, in order; the last may be shorter."""
    return [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]


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

    def kid(self, generated: Tensor) -> Estimate:
        """KID of features [n, D]; raises as `kid` does."""
        return kid(self.held_out.features, generated, self.held_out.patients)

    def floor(self) -> Estimate:
        """KID of the training images; raises as `kid` does."""
        ours, theirs = self.held_out, self.training
        return kid(ours.features, theirs.features, ours.patients, 0, theirs.patients)


class RealImages:
    """Reads and embeds a shard directory's images, each rank its share of them."""

    def __init__(
        self, manifest: Manifest, extractor: Extractor, device: torch.device, together: Together
    ) -> None:
        self.manifest, self.extractor, self.device, self.together = manifest, extractor, device, together

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
        for places in chunks(self.together.share(len(samples))):
            images = self.images(split, samples[places])
            parts.append(self.extractor.features(images.to(self.device)).cpu())
        return Embedded(self.manifest.splits[split], samples, self.together.rows(torch.cat(parts)))

    def mean_features(self, samples: np.ndarray) -> Tensor:
        """Features [1, D] of the mean of these training images, on the CPU."""
        total = torch.zeros(1, self.manifest.size**2, dtype=torch.float64)
        for places in chunks(self.together.share(len(samples))):
            total += self.images("train", samples[places]).double().flatten(1).sum(0)
        mean = (self.together.sums(total) / len(samples)).view(1, 1, self.manifest.size, self.manifest.size)
        return self.extractor.features(mean.to(self.device)).cpu()
