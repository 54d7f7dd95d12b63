"""How large what a configuration describes is: parameters, checkpoints, activations. Worked out, nothing is
allocated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexdist.config.tree import Config
from chexdist.data.decode import DTYPES
from chexdist.data.manifest import Manifest
from chexdist.distributed.partition import micro_batches, share

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
        """Bytes of a checkpoint: weights and Adam's two moments of both networks, and the averaged
        generator.
        """
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
    """Both networks of a configuration, built and run on torch's meta device, where tensors have shapes and
    no content.

    Args:
        classes: of the shards.
    """
    import torch

    from chexdist.config.spec import spec_of
    from chexdist.gan.models import FAMILIES
    from chexdist.gan.penalties import PENALTIES

    images, family = config.train.group, FAMILIES[config.model.name]
    spec, penalty = spec_of(config, classes), PENALTIES[config.penalty.name]
    with torch.device("meta"):
        generator, critic = family.Generator(spec), family.Critic(spec)
        real = torch.empty(images, 1, spec.size, spec.size)
        latent, weights = torch.empty(images, spec.latent), torch.empty(images)
        label = torch.zeros(images, dtype=torch.int64)
    with _kept_by_autograd() as in_critic:
        critic(torch.cat([real, real]), torch.cat([label, label]))
        if penalty is not None:
            penalty.penalty(critic, real, real, label, weights)
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
    """What autograd saves for the backward pass: bytes of each storage, and a tensor that keeps its address
    taken.
    """
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
