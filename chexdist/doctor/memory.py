"""The memory that training would take, as an estimate with its formula, against what is free."""

import os
from typing import TYPE_CHECKING

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.doctor.finding import Note, amount, counted
from chexdist.doctor.machine import free_memory
from chexdist.doctor.sizes import Sizes, decoded_bytes, largest_part, sizes_of
from chexdist.errors import UserError

if TYPE_CHECKING:
    import torch


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

    part = largest_part(config, ranks)
    computing = sizes.state(ranks) + part * sizes.image
    formula = (
        f"4 bytes x (weights, gradients{', the reducer' if ranks > 1 else ''}, Adam's two moments of "
        f"{sizes.generator:,} + {sizes.critic:,} parameters, and EMA) = {amount(sizes.state(ranks))}, + "
        f"{amount(part * sizes.image)} kept for the backward pass of {counted(part, 'image')}"
    )
    cure = (
        f"raise train.accumulate (now {config.train.accumulate}), lower model.width (now "
        f"{config.model.width}), or spread the batch over more nodes"
    )
    decoded = decoded_bytes(manifest) if manifest else 0
    kept = decoded if decoded <= config.data.memory << 20 else 0
    split = f"{amount(kept)} decoded split" if kept else "no decoded split"
    copies = f", x {counted(here, 'rank')} on this node" if here > 1 else ""
    checkpoint = f"+ {amount(sizes.checkpoint)} checkpoint being written"
    available = free_memory()
    if device.type == "cuda":
        fits = _compare(
            note, f"a rank, on its GPU: {formula}", computing, torch.cuda.mem_get_info(device)[0], cure
        )
        each, text = kept, f"main memory, beyond the processes themselves: {split}{copies}; {checkpoint}"
    else:
        fits = True
        each, text = (
            computing + kept,
            f"beyond the processes themselves: {formula}, + {split}{copies}; {checkpoint}",
        )
    needed = here * each + sizes.checkpoint
    if available is not None and needed - here * kept <= available:
        cure = (
            f"lower data.memory (now {config.data.memory}), so that the split is decoded in every epoch "
            "instead"
        )
    return _compare(note, text, needed, available, cure) and fits


def check_part(config: Config, manifest: Manifest, world: World) -> None:
    """Refuse what a rank would be killed for: more images at once than its memory takes, by the estimate of
    `check_memory`. Takes a second, and no memory.

    Raises:
        UserError: names the batch and the number of parts that fit.
    """
    import torch

    train = config.train
    sizes, here = sizes_of(config, len(manifest.classes)), int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    if torch.cuda.is_available():
        what, here = "the GPU has", 1
        free: int | None = torch.cuda.get_device_properties(0).total_memory
    else:
        what, free = "free here", free_memory()
    part, state = largest_part(config, world.size), sizes.state(world.size)
    if free is None or here * (state + part * sizes.image) <= free:
        return
    groups = max(0, free // here - state) // sizes.image // train.group
    fit, share = groups * train.group, -(-train.batch // train.group // world.size)
    cure = (
        f"set train.batch to {fit * train.accumulate * world.size} or less, or train.accumulate to "
        f"{-(-share // groups)} or more (the same batch, a part at a time)"
        if groups
        else "lower train.group or model.width"
    )
    raise UserError(
        f"train.batch {train.batch}: {counted(part, 'image')} at once on a rank take an estimated "
        f"{amount(state + part * sizes.image)}{f', x {here} ranks' if here > 1 else ''}; {what} "
        f"{amount(free)}: {cure}; `chexdist doctor` says how that is worked out"
    )


def _compare(note: Note, text: str, needed: int, free: int | None, cure: str) -> bool:
    """Write the finding; what the system doesn't say counts as enough."""
    text = (
        f"estimate: {amount(needed)} needed, {amount(free) if free is not None else 'unknown'} free ({text})"
    )
    if free is not None and needed > free:
        note.fault(text, cure)
        return False
    note.ok(text)
    return True
