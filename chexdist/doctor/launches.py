"""Whether a GPU would compute, or wait for the next operator: what a training step is made of, worked out on
torch's meta device.
"""

from dataclasses import dataclass
from typing import Any

from chexdist.config.tree import Config
from chexdist.doctor.finding import Note, counted
from chexdist.doctor.sizes import passes, step_on_meta

LAUNCH = 8e-6
"""Seconds in which Python, autograd and the driver launch one operator, ASSUMED."""
ARITHMETIC = 20e12
"""Floating-point operations a second of a GPU in convolutions of this size, ASSUMED."""


@dataclass(frozen=True)
class Work:
    """Of a step, which is `n_critic` updates of the critic with their penalty, and one of the generator.

    operators: at any number of images; arithmetic: floating-point operations for each image of a batch.
    """

    operators: int
    arithmetic: float

    @property
    def launching(self) -> float:
        """Seconds to launch the operators."""
        return LAUNCH * self.operators

    @property
    def enough(self) -> int:
        """Images from which a GPU computes for longer than that."""
        return max(1, round(self.launching * ARITHMETIC / self.arithmetic))


def work_of(config: Config, classes: int) -> Work:
    """Of the passes whose memory `sizes` counts: without the optimizers."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        operators = arithmetic = 0

        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = operator(*args, **(kwargs or {}))
            self.operators += 1
            if formula := flop_registry.get(operator._overloadpacket):
                self.arithmetic += formula(*args, **(kwargs or {}), out_val=made)
            return made

    images = config.train.group
    critic_step, generator_step = passes(step_on_meta(config, classes, images))
    with Counter() as counter:
        for _ in range(config.train.n_critic):
            critic_step()
        generator_step()
    return Work(counter.operators, counter.arithmetic / images)


def check_launches(note: Note, config: Config, classes: int, share: int, ranks: int) -> None:
    """What one GPU a rank would do in a step of `share` images.

    More ranks with fewer images each take as long where launching does.
    """
    work = work_of(config, classes)
    computing = share * work.arithmetic / ARITHMETIC
    said = (
        f"a GPU would launch {work.operators:,} operators a step, {work.launching * 1e3:.1f} ms, and compute "
        f"{counted(share, 'image')} in {computing * 1e3:.2g} ms ({LAUNCH * 1e6:.0f} us each and "
        f"{ARITHMETIC / 1e12:.0f} TFLOP/s, ASSUMED)"
    )
    if computing >= work.launching:
        note.ok(f"{said}: launches do not hold it up")
        return
    fewer = max(1, ranks * share // work.enough)
    cure = (
        f"{counted(fewer, 'rank')} would take about as long; a rank pays from {work.enough:,} images a step"
    )
    note.warning(f"{said}: it waits for launches", cure if fewer < ranks else f"{cure}, or a larger width")
