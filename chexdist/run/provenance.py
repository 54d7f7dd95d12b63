"""Decides what is recorded of where a run comes from, and on which of it bitwise equality depends."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from chexdist.config.address import without_secrets
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World

PACKAGES = ("chexdist", "torch", "torchvision", "accelerate", "webdataset", "numpy", "safetensors")


def machine(world: World) -> dict[str, Any]:
    """What rounding depends on: bitwise equality is promised between two starts that agree on all of it."""
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine()
    )
    return {
        "device": device,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "world_size": world.size,
    }


def provenance(manifest: Manifest, world: World) -> dict[str, Any]:
    """Command, commit, versions, machine and shards of this start."""
    return {
        "command": [without_secrets(word) for word in sys.argv],
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": machine(world),
        "cpus": os.cpu_count(),
        "node": platform.node(),
        "manifest": manifest.digest,
        "training_images": len(manifest.splits["train"]),
        "started": time.time(),
    }


def _commit() -> str | None:
    """The commit of the source tree, when it is one."""
    here = Path(__file__).parent
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None
