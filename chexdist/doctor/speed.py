"""How long the production step takes on this machine, for an image: what an epoch's length is worked out
from.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chexdist.config.tree import Config
from chexdist.doctor.alone import step_alone
from chexdist.doctor.finding import Note, counted

if TYPE_CHECKING:
    import torch

    from chexdist.training.step import Step

SECONDS = 0.25
"""How long each part of the step is repeated, at least twice."""
LONGEST = 2.0
"""A part that takes longer with a whole share is timed with one group only."""


@dataclass(frozen=True)
class Speed:
    """Seconds of training for an image, without waiting for data or ranks, from steps of `images` images."""

    seconds: float
    images: int

    @property
    def rate(self) -> float:
        """Images/s."""
        return 1 / self.seconds


def measure_speed(note: Note, config: Config, classes: int, share: int, device: "torch.device") -> Speed:
    """Time the critic's part of the step, its penalty and the generator's, each weighted by how often the
    schedule has it.

    Args:
        share: images of a rank's largest share; fewer are used where that takes long.
    """
    import torch

    speed = _timed(config, classes, config.train.group, device)
    if share > config.train.group and speed.seconds * share < LONGEST:
        speed = _timed(config, classes, share, device)
    threads = (
        counted(torch.get_num_threads(), "thread")
        if device.type == "cpu"
        else torch.cuda.get_device_name(device)
    )
    note.ok(
        f"{speed.rate:,.1f} images/s in training steps of {counted(speed.images, 'image')}, by this rank "
        f"alone ({threads}; measured, without data and other ranks)"
    )
    return speed


def _timed(config: Config, classes: int, images: int, device: "torch.device") -> Speed:
    import torch

    from chexdist.training.schedule import phases

    step = step_alone(config, classes, images, device)
    shown = torch.zeros(images, 1, config.model.size, config.model.size, device=device)
    labels = torch.arange(images, device=device) % classes

    def critic(gain: float) -> Callable[[], None]:
        def work() -> None:
            step.critic_gradients(0, shown, labels, gain)
            step.update_critic()

        return work

    def generator() -> None:
        step.generator_gradients(0, shown, labels)
        step.update_generator()

    gains = {phase.name: phase.gain for phase in phases(config)}
    plain = _middle(critic(0.0), step)
    seconds = plain + _middle(generator, step) / config.train.n_critic
    if "penalty" in gains:
        seconds += max(0.0, _middle(critic(1.0), step) - plain) / gains["penalty"]
    return Speed(seconds / images, images)


def _middle(work: Callable[[], None], step: "Step") -> float:
    """The median of repeated runs, in seconds; the first, which also loads and lays out, counts only where it
    is the only one.
    """
    measured: list[float] = []
    while len(measured) < 3 or sum(measured[1:]) < SECONDS and len(measured) < 20:
        begun = time.perf_counter()
        work()
        step.losses.not_finite.item()  # the device has finished
        measured.append(time.perf_counter() - begun)
        if measured[0] > LONGEST:
            return measured[0]
    return sorted(measured[1:])[(len(measured) - 1) // 2]
