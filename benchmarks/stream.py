"""`stream`: samples/s of the production loader in exact order, against stock WebDataset and a notebook's way.

Every side hands over batches of float images in [-1, 1], ready for a training step, through the same number
of loader processes. WebDataset reads the same tars with a shuffle buffer and decodes with Pillow too; the
notebook decodes and resizes a folder of 1024 px PNGs (the first of the same pictures) with torchvision in
each epoch.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import webdataset
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from benchmarks.alternate import Comparison, Effort, Side, alternate
from benchmarks.material import build_shards, write_pictures
from benchmarks.record import Result
from chexdist.data.loader import batches, to_unit_range
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.reader import SampleReader

PREFETCH = 4
"""Batches that each process reads ahead; what the production loader has."""

COMPARISONS = [
    Comparison("each sample decoded, exact order / WebDataset, shuffle buffer", "decoding", "webdataset"),
    Comparison("first epoch / notebook, 1024 px PNGs", "first epoch", "notebook"),
    Comparison("later epochs, from memory / notebook, 1024 px PNGs", "from memory", "notebook"),
]

NOTES = (
    "All sides are timed from making the loader to the last batch, except from memory: a stretch of an "
    + "endless loader.",
    "Pictures are of the procedural phantom; the files are in the page cache. The notebook's folder holds "
    + "fewer of them, which its rate does not depend on; it has as many loader processes as chexdist, "
    + "though notebooks usually have none.",
)


@dataclass(frozen=True)
class Setting:
    """`pictures` x `exposures` samples of `size` px in shards, and `originals` PNGs of `enlarged` px."""

    workers: int = 1
    pictures: int = 160
    exposures: int = 4
    size: int = 256
    originals: int = 64
    enlarged: int = 1024
    batch: int = 64
    samples_per_shard: int = 128

    @property
    def samples(self) -> int:
        """In the shards."""
        return self.pictures * self.exposures


SHIPPED = Setting()
TINY = Setting(pictures=16, exposures=2, size=32, originals=8, enlarged=64, batch=8, samples_per_shard=16)


class Ours:
    """The production reader and loader, as the trainer makes them."""

    def __init__(self, manifest: Manifest, setting: Setting) -> None:
        self.manifest, self.setting = manifest, setting
        self.endless: Generator[torch.Tensor] | None = None

    def close(self) -> None:
        """End the loader processes: they ignore signals, so they would outlive this one."""
        if self.endless is not None:
            self.endless.close()

    def data(self, memory_mib: int) -> Generator[torch.Tensor]:
        """Images without end, decoded once where memory allows."""
        fetched = batches(
            SampleReader(self.manifest, "train", memory_mib),
            seed=0,
            window=0,
            batch=self.setting.batch,
            share=range(self.setting.batch),
            first=0,
            workers=self.setting.workers,
        )
        for pixels, _ in fetched:
            yield to_unit_range(pixels, self.manifest.bits, torch.float32)

    def epoch(self, memory_mib: int) -> float:
        """Seconds of one epoch of a fresh reader."""
        start = time.perf_counter()
        data = self.data(memory_mib)
        return since(start, islice(data, self.setting.samples // self.setting.batch), self.setting.samples)

    def from_memory(self) -> float:
        """Seconds of ten epochs after the first, once what was read ahead is used up."""
        epoch = self.setting.samples // self.setting.batch
        if self.endless is None:
            self.endless = self.data(memory_mib=2048)
            drain(islice(self.endless, epoch))
        drain(islice(self.endless, 2 * PREFETCH * self.setting.workers))
        start = time.perf_counter()
        return since(start, islice(self.endless, 10 * epoch), 10 * self.setting.samples)


def webdataset_epoch(manifest: Manifest, setting: Setting) -> float:
    """Seconds of one epoch of a stock pipeline over the same tars."""
    start = time.perf_counter()
    urls = [str(file) for file in manifest.splits["train"].files]
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls))
        .shuffle(1000)
        .decode("l8")
        .to_tuple("png", "json")
        .batched(setting.batch)
    )
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=setting.workers, prefetch_factor=PREFETCH
    )
    images = (to_unit_range(torch.as_tensor(pixels), 8, torch.float32) for pixels, _ in loader)
    return since(start, images, setting.samples)


def notebook_epoch(folder: Path, setting: Setting) -> float:
    """Seconds of one epoch over a folder of PNGs."""
    start = time.perf_counter()
    transform = Compose([Resize((setting.size, setting.size)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    loader = DataLoader(
        ImageFolder(str(folder), transform=transform),
        batch_size=min(setting.batch, setting.originals),
        shuffle=True,
        num_workers=setting.workers,
    )
    return since(start, (images for images, _ in loader), setting.originals)


def since(start: float, images: Iterator[torch.Tensor], expected: int) -> float:
    """Seconds from `start` until all images have come; that they are as many as expected is checked."""
    found = drain(images)
    seconds = time.perf_counter() - start
    assert found == expected, f"{found} samples came, not {expected}"
    return seconds


def drain(images: Iterator[torch.Tensor]) -> int:
    """The number of images."""
    return sum(len(part) for part in images)


def measure(effort: Effort, work: Path, setting: Setting = SHIPPED) -> Result:
    """All rows of `stream`; pictures and shards are made in the empty directory `work`."""
    write_pictures(
        work, setting.pictures, setting.exposures, setting.size, setting.originals, setting.enlarged
    )
    build_shards(work / "small", work / "shards", setting.size, setting.samples_per_shard)
    manifest = read_manifest(str(work / "shards"))
    with closing(Ours(manifest, setting)) as ours:
        sides = [
            Side("decoding", setting.samples, lambda: ours.epoch(memory_mib=0)),
            Side("webdataset", setting.samples, lambda: webdataset_epoch(manifest, setting)),
            Side("first epoch", setting.samples, lambda: ours.epoch(memory_mib=2048)),
            Side("from memory", 10 * setting.samples, ours.from_memory),
            Side("notebook", setting.originals, lambda: notebook_epoch(work / "large", setting)),
        ]
        rates = alternate("stream", sides, effort)
    settings = {"batch": setting.batch, "size": setting.size, "workers": setting.workers}
    return Result("stream", "samples/s", settings, NOTES, COMPARISONS, rates)
