"""Logs what each node has fetched of remote shards: a line an epoch, in a file and on the screen.

That depends on what was in the caches before, so it is no metric: a run that was killed and resumed has other
numbers."""

import torch

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.run import layout
from chexdist.run.directory import RunDirectory
from chexdist.training.progress_line import TrainingProgress


class Traffic:
    """What the ranks' processes have fetched since the last line; with local shards, nothing is logged."""

    def __init__(self, manifest: Manifest, collectives: Collectives, run: RunDirectory, batch: int) -> None:
        self.cache, self.collectives, self.run_directory = manifest.cache, collectives, run
        self.batch, self.samples = batch, len(manifest.splits["train"])
        self.logged: int | None = None
        self.bytes = 0

    def log(self, t: int, last: bool, progress: TrainingProgress) -> None:
        """After batch t - 1, on all ranks at once: a line if an epoch has ended since the last one, or if it
        is the last time.
        """
        epoch = t * self.batch // self.samples
        if self.logged is None:
            self.logged = epoch
        if self.cache is None or epoch == self.logged and not last:
            return
        self.logged = epoch
        received = self.cache.fetched()
        world = self.collectives.world
        rows = self.collectives.all_gather(torch.tensor([[world.node, received - self.bytes]]))
        self.bytes = received
        nodes = {node: int(rows[rows[:, 0] == node, 1].sum()) for node in sorted({*rows[:, 0].tolist()})}
        line = {"images": t * self.batch, "epoch": t * self.batch / self.samples, "bytes": nodes}
        self.collectives.run_on_main(lambda: self.run_directory.append(layout.FETCHED, line))
        if world.is_main:
            shown = ", ".join(f"node {node}: {count / 2**20:.1f} MiB" for node, count in nodes.items())
            progress.print_line(f"{t * self.batch} images: fetched since the last such line: {shown}")
