"""Where trials happen, made once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.hosts import TwoHosts, missing

from chaos.sandbox import Disk, leave_mounts
from chaos.targets import Lab


@pytest.fixture(scope="session")
def lab(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Mounts of its own, so that nothing of it outlives this process."""
    if why := leave_mounts() or missing():
        pytest.skip(why)
    base = tmp_path_factory.mktemp("chaos")
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    with ExitStack() as end:
        disks = [Disk(base / "disk", 32), Disk(Path("/dev/shm"), 16)]
        for disk in disks:
            end.callback(disk.unmount)
        yield Lab(base, shards, *disks, end.enter_context(TwoHosts()))
