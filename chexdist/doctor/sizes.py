"""How large what a configuration describes is: parameters, checkpoints, what a step and an evaluation hold.
Worked out, nothing is allocated.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """Parameters of both networks, and bytes of what their passes hold at once, weights and gradients aside.

    image: of a training step, for each image of its part.
    evaluation: of an evaluation's largest pass, which keeps nothing for a backward pass.
    """

    generator: int
    critic: int
    image: int
    evaluation: int

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights and Adam's two moments of both networks, and the averaged
        generator.
        """
        return FLOAT * (4 * self.generator + 3 * self.critic)

    @property
    def largest_file(self) -> int:
        """Bytes of the largest of a checkpoint's files, an optimizer's, which is assembled in memory."""
        return 2 * FLOAT * max(self.generator, self.critic)

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
    no content. Passes of some images and of twice as many are compared, so that gradients are out.

    Args:
        classes: of the shards.
    """
    import torch

    from chexdist.config.spec import spec_of
    from chexdist.gan.models import FAMILIES
    from chexdist.gan.models.norms import GhostBatchNorm
    from chexdist.run.sampling import CALIBRATION_GROUPS, CHUNK

    group, family, spec = config.train.group, FAMILIES[config.model.name], spec_of(config, classes)
    with torch.device("meta"):
        generator, critic = family.Generator(spec), family.Critic(spec)
    some = -(-CHUNK // group) * group
    once, twice = (
        [peak_of(step) for step in passes(config, generator, critic, images)] for images in (some, 2 * some)
    )
    grown = [(after - before) // some for before, after in zip(once, twice, strict=True)]
    drawn, scored = grown[2:]
    calibrated = any(isinstance(layer, GhostBatchNorm) for layer in generator.modules())
    evaluation = max(CHUNK * max(drawn, scored), calibrated * CALIBRATION_GROUPS * group * drawn)
    parameters = [sum(weight.numel() for weight in net.parameters()) for net in (generator, critic)]
    return Sizes(parameters[0], parameters[1], max(grown[:2]), evaluation)


def passes(
    config: Config, generator: "torch.nn.Module", critic: "torch.nn.Module", images: int
) -> list[Callable[[], object]]:
    """The critic's step and the generator's; images drawn, and scored, with nothing kept. For networks on
    torch's meta device.
    """
    import torch

    from chexdist.gan.penalties import PENALTIES

    penalty = PENALTIES[config.penalty.name]
    with torch.device("meta"):
        real = torch.empty(images, 1, config.model.size, config.model.size)
        latent, weights = torch.empty(images, config.model.latent), torch.empty(images)
        label = torch.zeros(images, dtype=torch.int64)

    def critic_step() -> None:
        with torch.no_grad():
            fake = generator(latent, label)
        total = critic(torch.cat([real, fake]), torch.cat([label, label])).sum()
        if penalty is not None:
            total = total + penalty.penalty(critic, real, fake, label, weights).sum()
        total.backward()
        critic.zero_grad()

    def generator_step() -> None:
        critic(generator(latent, label), label).sum().backward()
        generator.zero_grad()
        critic.zero_grad()

    return [
        critic_step,
        generator_step,
        torch.no_grad()(lambda: generator(latent, label)),
        torch.no_grad()(lambda: critic(real, label)),
    ]


def peak_of(work: Callable[[], object]) -> int:
    """Bytes of the tensors that are made in `work` and live at once, at most."""
    from torch import Tensor, UntypedStorage
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.known: set[int] = set()
            self.live = self.peak = 0

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = operator(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, tuple | list) else (made,):
                if isinstance(tensor, Tensor):
                    self.note(tensor.untyped_storage())
            return made

        def note(self, storage: UntypedStorage) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self.known:
                self.known.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self.gone, key, size)

        def gone(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.live -= size

    with Watch() as watch:
        work()
    return watch.peak


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
