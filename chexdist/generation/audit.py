"""Decides what generated images are compared with before export: every training image of their run."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from chexdist.config.tree import Data
from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader
from chexdist.errors import UserError
from chexdist.metrics.memorisation import fingerprints, likeness, threshold
from shards.progress import Progress

CHUNK = 64
CALIBRATION_IMAGES = 1000
"""Most real images whose likeness to other patients' training images is taken, evenly from all splits."""


def training_shards(directory: str, manifest_digest: str, settings: Data) -> Manifest:
    """The manifest of the shards that a run was trained on; `settings` are those of a cache for remote ones.

    Raises:
        UserError: it can't be read, or is another one.
    """
    cure = "give the run's own with --shards DIR, or leave the audit out with --no-audit"
    try:
        manifest = read_manifest(directory, settings)
    except UserError as error:
        raise UserError(f"the audit needs the shards that the run was trained on: {error}; {cure}") from None
    if manifest.digest != manifest_digest:
        raise UserError(f"{manifest.directory} holds other shards than the run was trained on: {cure}")
    return manifest


class Audit:
    """The training images' fingerprints, and the likeness to them that real X-rays of other patients have."""

    def __init__(self, manifest: Manifest) -> None:
        """Reads every training image once, with its progress shown.

        Raises:
            WorkError: a shard is damaged.
        """
        train = manifest.splits["train"]
        calibrating = _calibration_samples(manifest)
        with Progress("audit: reading training images", len(train), "images") as progress:
            self.references = torch.cat(
                [
                    fingerprints(images)
                    for _, images in _real(manifest, "train", np.arange(len(train)), progress)
                ]
            )
        found = []
        total = sum(len(samples) for samples in calibrating.values())
        with Progress("audit: comparing real X-rays", total, "images") as progress:
            for name, samples in calibrating.items():
                split = manifest.splits[name]
                for part, images in _real(manifest, name, samples, progress):
                    same = split.patient[part][:, None] == train.patient[None]
                    same |= split.cluster[part][:, None] == train.cluster[None]
                    found.append(likeness(images, self.references, torch.from_numpy(same)))
        self.threshold = threshold(torch.cat(found))

    def likeness(self, images: Tensor) -> Tensor:
        """Of each image [N, 1, S, S] to the nearest training image: float32 [N]."""
        return likeness(images, self.references)


def _calibration_samples(manifest: Manifest) -> dict[str, np.ndarray]:
    """Sample numbers by split, CALIBRATION_IMAGES in all at most."""
    sizes = {name: len(split) for name, split in manifest.splits.items() if len(split)}
    share = min(1.0, CALIBRATION_IMAGES / sum(sizes.values()))
    return {
        name: np.linspace(0, size - 1, max(1, int(size * share))).astype(int) for name, size in sizes.items()
    }


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
