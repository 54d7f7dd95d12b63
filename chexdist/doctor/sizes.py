"""How large what a configuration describes is: parameters, checkpoints, what a step and an evaluation hold.
Worked out by the production step on torch's meta device: nothing is allocated.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chexdist.config.tree import Config
from chexdist.distributed.partition import micro_batches, share
from chexdist.doctor.alone import step_alone

if TYPE_CHECKING:
    import torch

    from chexdist.training.networks import Gan
    from chexdist.training.step import Step

FLOAT = 4
"""Bytes of a weight; they are float32 at any precision."""


@dataclass(frozen=True)
class Sizes:
    """Parameters of both networks, and bytes of what their passes hold at once, weights aside.

    moments: of a training step after each of its allocations, as bytes at any number of images (weights'
        gradients) and bytes for each image.
    evaluation: of an evaluation's largest pass, which keeps nothing for a backward pass.
    """

    generator: int
    critic: int
    moments: frozenset[tuple[int, int]]
    evaluation: int

    def step(self, images: int) -> int:
        """Bytes of a training step at its fullest moment, with this many images in its part: the images, what
        the passes keep and compute, and the gradients.
        """
        return max(fixed + each * images for fixed, each in self.moments)

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
        """Bytes of weights, moments and average, which stay from step to step, as do DDP's buckets of
        gradients.
        """
        copies = 3 if world_size == 1 else 4
        return FLOAT * (copies * (self.generator + self.critic) + self.generator)


def sizes_of(config: Config, classes: int) -> Sizes:
    """The passes of some images and of twice as many allocate in the same order, so each moment's bytes are
    those at no image and those of an image.

    Args:
        classes: of the shards.
    """
    some = 2 * config.train.group
    once, twice = (step_on_meta(config, classes, images) for images in (some, 2 * some))
    gan = once.gan
    moments = {
        (2 * before - after, (after - before) // some)
        for one, other in zip(passes(once), passes(twice), strict=True)
        for before, after in zip(live_bytes(one), live_bytes(other), strict=True)
    }
    parameters = [sum(weight.numel() for weight in net.parameters()) for net in (gan.generator, gan.critic)]
    evaluation = max(max(live_bytes(work)) for work in evaluation_passes(gan))
    return Sizes(parameters[0], parameters[1], frozenset(moments), evaluation)


def step_on_meta(config: Config, classes: int, images: int) -> "Step":
    """In float32: torch's meta device has no autocast."""
    import torch

    from chexdist.training.precision import with_precision

    return step_alone(with_precision(config, "no"), classes, images, torch.device("meta"))


def passes(step: "Step") -> list[Callable[[], None]]:
    """The critic's part of a step on torch's meta device, with the penalty if there is one, and the
    generator's, up to their gradients.
    """
    import torch

    config, images = step.gan.config, len(step.share)
    size, gain = config.model.size, float(config.penalty.name != "none")

    def shown() -> "tuple[torch.Tensor, torch.Tensor]":
        with torch.device("meta"):
            return torch.empty(images, 1, size, size), torch.zeros(images, dtype=torch.int64)

    def critic() -> None:
        step.critic_gradients(0, *shown(), penalty_gain=gain)
        step.gan.critic.zero_grad()

    def generator() -> None:
        step.generator_gradients(0, *shown())
        step.gan.generator.zero_grad()

    return [critic, generator]


def evaluation_passes(gan: "Gan") -> list[Callable[[], object]]:
    """The statistics of the generator's batch norm, images drawn, and scored."""
    import torch

    from chexdist.run.sampling import CHUNK, prepare, sample

    model, train, counts = gan.config.model, gan.config.train, gan.class_counts
    with torch.device("meta"):
        images = torch.empty(CHUNK, 1, model.size, model.size)
        labels = torch.zeros(CHUNK, dtype=torch.int64)
    return [
        lambda: prepare(gan.ema, model.latent, train.group, counts, train.seed),
        lambda: sample(gan.ema, model.latent, counts, train.seed, range(CHUNK)),
        torch.no_grad()(lambda: gan.critic(images, labels)),
    ]


def live_bytes(work: Callable[[], object]) -> list[int]:
    """Bytes of the tensors that were made in `work` and live, after each that is made; and within each
    convolution, with its scratch.
    """
    from torch import Tensor, UntypedStorage, ops
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.known: set[int] = set()
            self.live, self.seen = 0, [0]

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = operator(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, tuple | list) else (made,):
                if isinstance(tensor, Tensor) and not operator.is_view:  # such as a weight's
                    self.note(tensor.untyped_storage())
            if operator is ops.aten.convolution.default:
                self.seen.append(self.live + scratch(*args[:2]))
            return made

        def note(self, storage: UntypedStorage) -> None:
            key, size = storage._cdata, storage.nbytes()
            if key not in self.known:
                self.known.add(key)
                self.live += size
                self.seen.append(self.live)
                weakref.finalize(storage, self.gone, key, size)

        def gone(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.live -= size

    with Watch() as watch:
        work()
    return watch.seen


def scratch(images: "torch.Tensor", weights: "torch.Tensor") -> int:
    """Bytes that a convolution takes on a CPU beside its result: what is laid out neither with channels first
    nor with channels last is copied, then copied again into the order of oneDNN's kernel. A penalty's second
    derivative has such arguments: activations with images and channels exchanged.
    """
    import torch

    layouts = torch.contiguous_format, torch.channels_last
    return sum(
        2 * each.nbytes
        for each in (images, weights)
        if not any(each.is_contiguous(memory_format=layout) for layout in layouts)
    )


def largest_share(config: Config, world_size: int) -> range:
    """The last rank's part of a batch: shares differ by one group at most, and its is among the largest."""
    return share(config.train.batch, config.train.group, world_size, world_size - 1)


def largest_part(config: Config, world_size: int) -> int:
    """Images of the largest part that a rank computes at once."""
    train, mine = config.train, largest_share(config, world_size)
    return max(len(part) for part in micro_batches(mine, train.group, train.accumulate))
