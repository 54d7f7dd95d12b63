"""Decides whether each node's shared memory can hold the batches that loader processes hand over."""

import os
import platform
from pathlib import Path

from chexdist.config.tree import Config
from chexdist.data.ahead import handed_over_bytes
from chexdist.data.decoded import is_kept
from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.partition import share
from chexdist.errors import UserError

FOLDER = Path("/dev/shm")


def check_shared_memory(config: Config, manifest: Manifest, collectives: Collectives) -> None:
    """Free bytes of /dev/shm against what the ranks of a node need there at most; all ranks call it.

    Raises:
        UserError: on all ranks, naming the node whose memory is too small, the bytes and the cure.
    """
    if not config.data.workers:
        return
    world, train = collectives.world, config.train
    mine = len(share(train.batch, train.group, world.size, world.rank))
    kept = is_kept(manifest, "train", config.data.memory)
    needed = handed_over_bytes(mine, manifest.size, manifest.bits, config.data.workers, kept)
    ranks = collectives.gather((platform.node(), _free(), needed))
    for node in dict.fromkeys(name for name, _, _ in ranks):
        here = [(free, bytes) for name, free, bytes in ranks if name == node]
        free, total = min(free for free, _ in here), sum(bytes for _, bytes in here)
        if total > free:
            raise UserError(
                f"{FOLDER} of {node} has {_mib(free)} free, but the batches that {len(here)} x data.workers "
                f"{config.data.workers} loader processes hand over take up to {_mib(total)} there: make it "
                "larger (containers: --shm-size), lower data.workers, or give --data.workers 0"
            )


def _free() -> float:
    """Unlimited where there is no such folder."""
    if not FOLDER.is_dir():
        return float("inf")
    disk = os.statvfs(FOLDER)
    return disk.f_bavail * disk.f_frsize


def _mib(size: float) -> str:
    return f"{size / 2**20:,.2f} MiB"
