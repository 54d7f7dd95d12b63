"""Tells what each node has fetched of remote shards: a line an epoch in `fetched.jsonl`, and on the screen.

That depends on what was in the caches before, so it is no metric: a run that was killed and went on has other numbers.
"""

import torch

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Together
from chexdist.run.directory import RunDirectory
from chexdist.training.progress_line import TrainingProgress


class Traffic:
    """What the ranks' processes have fetched since the last line; with local shards, nothing is said."""

    def __init__(self, manifest: Manifest, together: Together, run: RunDirectory, batch: int) -> None:
        self.cache, self.together, self.run_directory = manifest.cache, together, run
        self.batch, self.samples = batch, len(manifest.splits["train"])
        self.told: int | None = None
        self.bytes = 0

    def tell(self, t: int, last: bool, progress: TrainingProgress) -> None:
        """Say it after batch t - 1, on all ranks at once, when an epoch has ended since it was said, or when it is the last time."""
        epoch = t * self.batch // self.samples
        if self.told is None:
            self.told = epoch
        if self.cache is None or epoch == self.told and not last:
            return
        self.told = epoch
        received = self.cache.fetched()
        world = self.together.world
        rows = self.together.rows(torch.tensor([[world.node, received - self.bytes]]))
        self.bytes = received
        nodes = {node: int(rows[rows[:, 0] == node, 1].sum()) for node in sorted({*rows[:, 0].tolist()})}
        line = {"images": t * self.batch, "epoch": t * self.batch / self.samples, "bytes": nodes}
        self.together.on_main(lambda: self.run_directory.fetched(line))
        if world.is_main:
            shown = ", ".join(f"node {node}: {count / 2**20:.1f} MiB" for node, count in nodes.items())
            progress.say(f"{t * self.batch} images: fetched since the last such line: {shown}")
