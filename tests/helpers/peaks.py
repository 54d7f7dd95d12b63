"""What training takes of the memory of a process of its own, measured: by torch's allocator, and by the
kernel.
"""

import ctypes
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from chexdist.config.load import load_config
from chexdist.config.tree import Config
from chexdist.data.loader import to_unit_range
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.training.networks import Gan
from chexdist.training.step import Step

BATCHES = 2
"""Adam makes its moments in the first one, and has them in the second."""
CLASSES = (3, 1)
M_MMAP_THRESHOLD = -3
"""Of malloc.h."""


def trained(world: World, config: Config) -> Gan:
    """Batches of the production step, each with the penalty, if there is one, and the generator's part."""
    gan = Gan(config, CLASSES, make_accelerator(world, timeout_seconds=60))
    step, batch, size = Step(gan, world), config.train.batch, config.model.size
    step.schedule = [replace(phase, every=batch) for phase in step.schedule]
    pixels = torch.zeros(1, size, size, dtype=torch.uint8).expand(batch, -1, -1)
    for t in range(BATCHES):
        images = to_unit_range(pixels, 8, torch.float32)
        step(t, images, torch.arange(batch) % len(CLASSES))
    return gan


def allocated(world: World, config: Config) -> int:
    """Bytes of all tensors, and of the scratch space of kernels, that live at once, at most; exact."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        trained(world, config)
    assert profiled.profiler is not None
    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def resident(world: World, config: Config, keeps: bool) -> int:
    """Bytes of its own by which the process grows, as the kernel has it, once a small training has loaded
    what is loaded late; pages of files aside.

    Args:
        keeps: malloc keeps what is freed, as it does by itself; else blocks from 256 KiB are given back.
    """
    if not keeps:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 18)
    trained(world, load_config("dcgan", ["--model.size=32", "--model.width=2", "--train.precision=no"]))
    before = _status("RssAnon")
    gan = trained(world, config)
    del gan
    return _status("VmHWM") - _status("RssFile") - _status("RssShmem") - before


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10
