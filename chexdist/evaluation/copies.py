"""Decides what images are audited against: every training image of the shards, and what they are judged by.

Images above the threshold are near-copies. It comes from real X-rays of other patients. How many copies are
found is measured on training images that are changed for the purpose (`metrics.planted`).
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest
from chexdist.data.reader import SampleReader
from chexdist.metrics.alignment import Gallery, small
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.memorisation import Likeness, Threshold, likeness, threshold
from chexdist.metrics.near_copy_rate import CopyProtocol, binomial_interval, measure
from chexdist.metrics.planted import KINDS, planted
from chexdist.metrics.share import share
from shards.progress import Progress

CHUNK = 64
CALIBRATION_IMAGES = 400
"""Most real images whose likeness to other patients' training images is taken: held-out ones first."""
PLANTED = 16
"""Training images of which a copy of each kind is made."""


class Audit:
    """The training images, and the likeness to them that real X-rays of other patients have."""

    def __init__(self, manifest: Manifest) -> None:
        """Reads every training image once, with its progress shown.

        Raises:
            WorkError: a shard is damaged.
        """
        self.manifest = manifest
        train = manifest.splits["train"]
        with Progress("audit: reading training images", len(train), "images") as progress:
            parts = [
                small(images).to(torch.uint8)
                for _, images in _real(manifest, "train", np.arange(len(train)), progress)
            ]
        self.references = Gallery(torch.cat(parts))
        calibrating = _calibration_samples(manifest)
        found: dict[str, Tensor] = {}
        patients: set[str] = set()
        total = sum(len(samples) for samples in calibrating.values())
        with Progress("audit: comparing real X-rays", total, "images") as progress:
            for name, samples in calibrating.items():
                values = []
                split = manifest.splits[name]
                for part, images in _real(manifest, name, samples, progress):
                    same = split.patient[part][:, None] == train.patient[None]
                    same |= split.cluster[part][:, None] == train.cluster[None]
                    values.append(likeness(images, self.references, torch.from_numpy(same)).value)
                found[name] = torch.cat(values)
                patients |= set(split.patient[samples].tolist())
        self._real = torch.cat([*found.values()])
        held_out = [values for name, values in found.items() if name != "train"]
        self._held_out = torch.cat(held_out) if held_out else self._real
        self._weight = min(1.0, len(patients) / len(self._real))
        # held-out X-rays may well resemble training images more than training images each other
        self.threshold: Threshold = max(
            (threshold(values) for values in (self._real, self._held_out)), key=lambda each: each.value
        )

    def nearest(self, images: Tensor) -> Likeness:
        """Of each image [N, 1, S, S] in [-1, 1], the nearest training image and the likeness to it."""
        return likeness(images, self.references)

    def likeness(self, images: Tensor) -> Tensor:
        """Of each image [N, 1, S, S] in [-1, 1] to the nearest training image: float32 [N]."""
        return self.nearest(images).value

    @cached_property
    def found(self) -> dict[str, int]:
        """Of PLANTED copies of each kind of `planted.KINDS`, how many are found."""
        samples = np.linspace(0, len(self.references) - 1, self.planted).astype(int)
        with Progress("audit: planted copies", len(KINDS) * len(samples), "images") as progress:
            originals = self.references.pictures[torch.from_numpy(samples)] / 127.5 - 1
            found = {}
            for kind in KINDS:
                values = self.likeness(planted(originals, kind))
                found[kind] = int((values > self.threshold.value).sum())
                progress.advance(len(samples))
        return found

    @property
    def planted(self) -> int:
        """Copies made of each kind."""
        return min(PLANTED, len(self.references))

    def rate(self, values: Tensor) -> Estimate:
        """The share of images that are near-copies, from their likeness [n]; its interval reckons with both
        kinds of mistakes.
        """
        alarms = int((self._real > self.threshold.value).sum())
        worst = min(self.found.values())
        flagged = values > self.threshold.value
        measured = measure(
            int(flagged.sum()),
            len(values),
            false_alarms=binomial_interval(alarms, len(self._real), self._weight)[1],
            found=binomial_interval(worst, self.planted)[0],
            n_real=len(self.references),
            patients=len(np.unique(self.manifest.splits["train"].patient)),
        )
        # two generators are judged by the same threshold: their difference is that of the shares flagged
        return replace(measured, draws=share(flagged, None).draws)

    def real_rate(self) -> Estimate:
        """The share of held-out real X-rays that are taken for copies, which they are not."""
        flagged, n = int((self._held_out > self.threshold.value).sum()), len(self._held_out)
        low, high = binomial_interval(flagged, n)
        return Estimate(flagged / n, low, high, len(self.references), n)

    def protocol(self, n: int) -> CopyProtocol:
        """How the rate of n images is measured."""
        return CopyProtocol(self.manifest.size, self.manifest.reference, len(self._real), self.planted, n)


def _calibration_samples(manifest: Manifest) -> dict[str, np.ndarray]:
    """Sample numbers by split, CALIBRATION_IMAGES in all at most, evenly from each split."""
    names = sorted((name for name, split in manifest.splits.items() if len(split)), key="train".__eq__)
    left, chosen = CALIBRATION_IMAGES, {}
    for i, name in enumerate(names):
        size = len(manifest.splits[name])
        most = left if name == "train" else max(1, left // (len(names) - i))
        if number := min(size, most):
            chosen[name] = np.linspace(0, size - 1, number).astype(int)
            left -= number
    return chosen


def _real(
    manifest: Manifest, split: str, samples: np.ndarray, progress: Progress
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(sample numbers, images [n, 1, S, S] in [-1, 1]), a chunk at a time."""
    reader = SampleReader(manifest, split, memory_mib=0)
    for start in range(0, len(samples), CHUNK):
        part = samples[start : start + CHUNK]
        pixels = torch.from_numpy(reader.read(part.tolist()).astype(np.int32))
        yield part, to_unit_range(pixels, manifest.bits, torch.float32)
        progress.advance(len(part))
