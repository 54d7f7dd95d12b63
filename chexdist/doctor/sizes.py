"""How much a configuration needs: parameters, a checkpoint's bytes, memory. Worked out, nothing is allocated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexdist.config.tree import Config
from chexdist.data.decode import DTYPES
from chexdist.data.manifest import Manifest
from chexdist.data.partition import micro_batches, share
from chexdist.doctor.finding import Note, amount, counted
from chexdist.doctor.machine import free_memory

if TYPE_CHECKING:
    import torch

FLOAT = 4
"""Bytes of a weight; they are float32 at any precision."""


@dataclass(frozen=True)
class Sizes:
    """Parameters of both networks, and the bytes that autograd keeps of an image until the backward pass."""

    generator: int
    critic: int
    image: int

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights and Adam's two moments of both networks, and the averaged generator."""
        return FLOAT * (4 * self.generator + 3 * self.critic)

    @property
    def gradients(self) -> tuple[int, int]:
        """Bytes that ranks sum, for the generator and for the critic."""
        return FLOAT * self.generator, FLOAT * self.critic

    def state(self, world_size: int) -> int:
        """Bytes of weights, gradients, moments and average; DDP keeps the gradients once more."""
        copies = 4 if world_size == 1 else 5
        return FLOAT * (copies * (self.generator + self.critic) + self.generator)


def sizes_of(config: Config, classes: int) -> Sizes:
    """Both networks of a configuration, built and run on torch's meta device, where tensors have shapes and no content.

    Args:
        classes: of the shards.
    """
    import torch

    from chexdist.engine.gan import spec_of
    from chexdist.models import build_critic, build_generator
    from chexdist.penalties import PENALTIES

    images = config.train.group
    spec, penalty = spec_of(config, classes), PENALTIES[config.penalty.name]
    with torch.device("meta"):
        generator, critic = (build(config.model.name, spec) for build in (build_generator, build_critic))
        real = torch.empty(images, 1, spec.size, spec.size)
        latent, weights = torch.empty(images, spec.latent), torch.empty(images)
        label = torch.zeros(images, dtype=torch.int64)
    with _kept_by_autograd() as in_critic:
        critic(torch.cat([real, real]), torch.cat([label, label]))
        if penalty is not None:
            penalty(critic, real, real, label, weights)
    with _kept_by_autograd() as in_generator:
        critic(generator(latent, label), label)
    parameters = tuple(sum(weight.numel() for weight in net.parameters()) for net in (generator, critic))
    own = {
        weight.untyped_storage()._cdata for network in (generator, critic) for weight in network.parameters()
    }
    kept = [
        sum(size for key, (size, _) in part.items() if key not in own) for part in (in_critic, in_generator)
    ]
    return Sizes(parameters[0], parameters[1], max(kept) // images)


@contextmanager
def _kept_by_autograd() -> Iterator[dict[int, tuple[int, "torch.Tensor"]]]:
    """What autograd saves for the backward pass: bytes of each storage, and a tensor that keeps its address taken."""
    import torch

    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def largest_share(config: Config, world_size: int) -> range:
    """The last rank's part of a batch: shares differ by one group at most, and its is among the largest."""
    return share(config.train.batch, config.train.group, world_size, world_size - 1)


def largest_part(config: Config, world_size: int) -> int:
    """Images of the largest part that a rank computes at once."""
    train, mine = config.train, largest_share(config, world_size)
    return max(len(part) for part in micro_batches(mine, train.group, train.accumulate))


def decoded_bytes(manifest: Manifest) -> int:
    """The training split, decoded."""
    return len(manifest.splits["train"]) * manifest.size**2 * np.dtype(DTYPES[manifest.bits]).itemsize


def check_memory(
    note: Note,
    config: Config,
    manifest: Manifest | None,
    sizes: Sizes,
    device: "torch.device",
    ranks: int,
    here: int,
) -> bool:
    """The estimate against what is free, on the device and in main memory. Returns whether it fits.

    Args:
        ranks: of the world.
        here: ranks that share this machine's memory.
    """
    import torch

    part = largest_part(config, ranks)
    state, activations = sizes.state(ranks), part * sizes.image
    decoded = decoded_bytes(manifest) if manifest else 0
    kept = decoded if decoded <= config.data.memory << 20 else 0
    on_device = device.type == "cuda"
    computing = state + activations
    in_main = here * (kept + (0 if on_device else computing)) + sizes.checkpoint
    formula = (
        f"4 bytes x (weights, gradients{', the reducer' if ranks > 1 else ''}, Adam's two moments of {sizes.generator:,} + "
        f"{sizes.critic:,} parameters, and EMA) = {amount(state)}, + {amount(activations)} kept for the backward "
        f"pass of {counted(part, 'image')}"
    )
    split = (
        f"{amount(kept)} decoded split"
        if kept
        else "no decoded split"
        if manifest
        else "the split not counted"
    )
    cure = (
        f"raise train.accumulate (now {config.train.accumulate}), lower model.width (now {config.model.width}), or spread the "
        "batch over more nodes"
    )
    fits = True
    if on_device:
        free = torch.cuda.mem_get_info(device)[0]
        text = (
            f"estimate: a rank needs {amount(computing)} of {amount(free)} GPU memory that is free: {formula}"
        )
        fits = computing <= free
        note.ok(text) if fits else note.fault(text, cure)
    available = free_memory()
    each = split if on_device else f"{formula}, + {split}"
    text = (
        f"estimate: {counted(here, 'rank')} on this node need{'s' if here == 1 else ''} {amount(in_main)} of main memory beyond the "
        f"processes themselves: {each}"
        + (f", x {here}" if here > 1 else "")
        + f"; + {amount(sizes.checkpoint)} checkpoint being written"
    )
    if available is None:
        note.skipped(f"{text}; this system doesn't say what is free")
    elif in_main > available:
        if in_main - here * kept <= available:
            cure = f"lower data.memory (now {config.data.memory}) below the {amount(decoded)} of the decoded split"
        note.fault(f"{text}; {amount(available)} are free", cure)
        fits = False
    else:
        note.ok(f"{text}; {amount(available)} are free")
    return fits
