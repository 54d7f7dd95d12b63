"""The memory that training takes, as a sum of named terms, against what is free: refused before training,
explained by the doctor.
"""

import os
import re
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chexdist.config.tree import Config
from chexdist.data.ahead import handed_over_bytes
from chexdist.data.decoded import decoded_bytes, is_kept
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.doctor.finding import Note, amount, counted
from chexdist.doctor.sizes import FLOAT, Sizes, largest_part, largest_share, sizes_of
from chexdist.errors import UserError
from shards.free_memory import free_memory

if TYPE_CHECKING:
    import torch

MIB = 1 << 20
PROCESS = 560 * MIB
"""Memory of its own that a rank's process has after its first evaluation, networks and images aside: Python,
torch, the extractor, libraries that are imported late, and what the allocator keeps. Measured on the CPU."""
WORKER = 20 * MIB
"""Memory of its own that a loader process has: pages that it no longer shares with its rank."""

Terms = dict[str, int]


def main_terms(
    config: Config, manifest: Manifest | None, sizes: Sizes, ranks: int, here: int, on_gpu: bool
) -> Terms:
    """Bytes of one node's main memory by what takes them, in words of docs/memory.md.

    Args:
        ranks: of the world.
        here: ranks on this node; one of them is taken to be rank 0, which writes checkpoints.
        on_gpu: networks and their passes are in the GPUs' memory.
    """
    size, bits = config.model.size, manifest.bits if manifest else 16
    kept_decoded = manifest is not None and is_kept(manifest, "train", config.data.memory)
    workers = config.data.workers
    handed = handed_over_bytes(len(largest_share(config, ranks)), size, bits, workers, kept_decoded)
    # loader processes keep their rank's networks as they were at the fork: one copy for all of them
    kept = sizes.state(ranks) if workers and not on_gpu else 0
    terms = {
        "processes": here * max(0, PROCESS - held()),
        "loader processes": here * (workers * WORKER + kept),
        "batches that they hand over": here * handed,
        "decoded split": decoded_bytes(manifest) if manifest and kept_decoded else 0,
        "images of an evaluation": 2 * FLOAT * size**2 * -(-config.eval.samples // ranks) * here,
        "checkpoint being written": sizes.checkpoint + sizes.largest_file,
    }
    if not on_gpu:
        terms |= {name: here * bytes for name, bytes in network_terms(config, sizes, ranks).items()}
    return {name: bytes for name, bytes in terms.items() if bytes}


def network_terms(config: Config, sizes: Sizes, ranks: int) -> Terms:
    """Bytes of a rank's networks and of their largest pass, where they are: on its GPU, or in main memory."""
    terms = step_terms(config, sizes, ranks)
    state, step = terms
    if sizes.evaluation > terms[step]:
        return {state: terms[state], "an evaluation's largest pass": sizes.evaluation}
    return terms


def step_terms(config: Config, sizes: Sizes, ranks: int) -> Terms:
    """Bytes of a rank's tensors in a training step: those that stay, then those of the step.

    Where a share has several parts, gradients of those before stay, as do the images of those that follow.
    """
    part, share = largest_part(config, ranks), len(largest_share(config, ranks))
    step = sizes.step(part) + (share - part) * FLOAT * config.model.size**2
    if part < share:
        step += max(sizes.gradients)
    state = (
        f"weights{', the reducer' if ranks > 1 else ''}, Adam's two moments of {sizes.generator:,} + "
        f"{sizes.critic:,} parameters, and EMA, 4 bytes each"
    )
    return {state: sizes.state(ranks), f"gradients and passes of a step of {counted(part, 'image')}": step}


def held() -> int:
    """Bytes of its own that this process has taken already; 0 where the kernel doesn't say."""
    table = Path("/proc/self/status")
    found = re.search(r"^RssAnon:\s+(\d+) kB", table.read_text() if table.exists() else "", re.MULTILINE)
    return int(found.group(1)) << 10 if found else 0


def check_memory(
    note: Note,
    config: Config,
    manifest: Manifest | None,
    sizes: Sizes,
    device: "torch.device",
    ranks: int,
    here: int,
) -> bool:
    """The device's memory, then the machine's. Returns whether both are enough.

    Args:
        ranks: of the world.
        here: ranks that share this machine's memory.
    """
    import torch

    cure = (
        f"raise train.accumulate (now {config.train.accumulate}), lower model.width (now "
        f"{config.model.width}), or spread the batch over more nodes"
    )
    on_gpu, fits = device.type == "cuda", True
    if on_gpu:
        free = torch.cuda.mem_get_info(device)[0]
        fits = _compare(note, "a rank, on its GPU: ", network_terms(config, sizes, ranks), free, cure)
    terms, available = main_terms(config, manifest, sizes, ranks, here, on_gpu), free_memory()
    smaller = main_terms(_without_decoded(config), manifest, sizes, ranks, here, on_gpu)
    if available is not None and sum(smaller.values()) <= available:
        cure = _lower_memory(config)
    where = f"{counted(here, 'rank')} on this node: " if here > 1 else ""
    return _compare(note, where, terms, available, cure) and fits


def check_part(config: Config, manifest: Manifest, world: World) -> None:
    """Refuse what a rank would be killed for, by the terms of `check_memory`. Takes a second, and no memory.

    Raises:
        UserError: names what is needed and free, and what fits.
    """
    import torch

    from chexdist.distributed.devices import Visible, choose

    sizes, here = sizes_of(config, len(manifest.classes)), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    try:
        device = choose(os.environ, Visible.here(), world)
        free = torch.cuda.mem_get_info(device)[0] if device != "cpu" else 0
    except (UserError, RuntimeError, AssertionError):
        return  # a device that can't be used; all ranks refuse it once they are connected
    if device != "cpu":
        _refuse(config, world, "on the GPU", free, lambda config: network_terms(config, sizes, world.size))
    available = free_memory()
    if available is not None:
        _refuse(
            config,
            world,
            "here",
            available,
            lambda config: main_terms(config, manifest, sizes, world.size, here, device != "cpu"),
        )


def _refuse(config: Config, world: World, where: str, free: int, terms_of: Callable[[Config], Terms]) -> None:
    terms = terms_of(config)
    needed = sum(terms.values())
    if needed <= free:
        return
    train, group = config.train, config.train.group
    share = len(largest_share(config, world.size)) // group

    def fits(**changed: int) -> bool:
        other = config.model_copy(update={"train": train.model_copy(update=changed)})
        return sum(terms_of(other).values()) <= free

    def batch_fits(groups: int) -> bool:
        return fits(batch=groups * group * world.size)

    # the number of a rank's groups from which on it is too much, and the parts from which on it fits
    groups = bisect_left(range(1, share + 1), True, key=lambda count: not batch_fits(count))
    parts = 1 + bisect_left(range(1, share + 1), True, key=lambda count: fits(accumulate=count))
    setting = f"train.batch {train.batch}"
    if sum(terms_of(_without_decoded(config)).values()) <= free:
        setting, cure = f"data.memory {config.data.memory}", _lower_memory(config)
    elif groups:
        cure = f"set train.batch to {groups * group * world.size} or less"
        if parts <= share:
            cure += f", or train.accumulate to {parts} or more (the same batch, a part at a time)"
    else:
        cure = "lower train.group or model.width"
        if config.data.workers:
            cure += f", or data.workers (now {config.data.workers})"
    raise UserError(
        f"{setting}: training takes an estimated {amount(needed)}, free {where} {amount(free)}: {cure} "
        f"({listed(terms)})"
    )


def listed(terms: Terms) -> str:
    """The terms in words, the largest first."""
    ordered = sorted(terms.items(), key=lambda term: -term[1])
    return ", ".join(f"{amount(bytes)} {name}" for name, bytes in ordered)


def _without_decoded(config: Config) -> Config:
    return config.model_copy(update={"data": config.data.model_copy(update={"memory": 0})})


def _lower_memory(config: Config) -> str:
    return (
        f"lower data.memory (now {config.data.memory}), so that the split is decoded in every epoch instead"
    )


def _compare(note: Note, where: str, terms: Terms, free: int | None, cure: str) -> bool:
    """Write the finding; what the system doesn't say counts as enough."""
    needed = sum(terms.values())
    text = (
        f"estimate: {amount(needed)} needed, {amount(free) if free is not None else 'unknown'} free "
        f"({where}{listed(terms)})"
    )
    if free is not None and needed > free:
        note.fault(text, cure)
        return False
    note.ok(text)
    return True
