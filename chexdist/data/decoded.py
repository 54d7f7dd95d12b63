"""Keeps decoded samples in memory: one copy for all ranks of a node and their loader processes.

It is a memory file, which has no name, so a killed job leaves nothing behind. The other ranks of the node
open the first one's through /proc while all wait for each other; a mapping outlives its descriptor.
"""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from chexdist.data.decode import DTYPES
from chexdist.data.manifest import Manifest

Gather = Callable[[Any], list[Any]]
"""This rank's value -> every rank's, in rank order; all ranks call it."""


def alone(value: Any) -> list[Any]:
    """`Gather` of one rank."""
    return [value]


@dataclass(frozen=True)
class Decoded:
    """Samples by number: pixels [N, size, size], and uint8 [N], 1 where they are there.

    Whoever decodes a sample writes its pixels, then the 1: two processes may both do it, with the same bytes,
    but none reads half of it.
    """

    pixels: np.ndarray
    there: np.ndarray


def decoded_bytes(manifest: Manifest, split: str = "train") -> int:
    """A split, decoded."""
    return len(manifest.splits[split]) * manifest.size**2 * np.dtype(DTYPES[manifest.bits]).itemsize


def is_kept(manifest: Manifest, split: str, memory_mib: int) -> bool:
    """Whether a split is decoded once: one that takes more is not kept at all."""
    return 0 < decoded_bytes(manifest, split) <= memory_mib << 20


def decoded_of_node(samples: int, size: int, dtype: np.dtype, gather: Gather) -> Decoded:
    """Empty memory for a split, which all ranks of a node share that can open each other's files."""
    image = size**2 * dtype.itemsize
    with FileIO(os.memfd_create("decoded"), "r+") as mine:
        mine.truncate(samples * (image + 1))
        offers = gather((_node(), f"/proc/{os.getpid()}/fd/{mine.fileno()}"))
        path = next(path for node, path in offers if node == _node())
        memory = _mapped(path, samples * (image + 1)) or mmap.mmap(mine.fileno(), 0)
        gather(None)  # all have opened it
    pixels = np.frombuffer(memory, dtype, samples * size**2).reshape(samples, size, size)
    return Decoded(pixels, np.frombuffer(memory, np.uint8, samples, samples * image))


def share_in_memory(nodes: int, epoch: int) -> float:
    """The share of an epoch's samples that a node has decoded in an epoch before; epochs count from 1.

    Each epoch draws anew by which node a sample is read.
    """
    return 1 - (1 - 1 / nodes) ** (epoch - 1)


def _mapped(path: str, size: int) -> mmap.mmap | None:
    """None where it is another user's, or what it was is gone."""
    try:
        with FileIO(path, "r+") as file:
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError):
        return None


def _node() -> tuple[str, str]:
    """What two processes have in common that see each other in /proc: kernel and process namespace."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")
