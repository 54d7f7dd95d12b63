"""Decides when each part of training is due. A schedule is data: a list of phases, each with its interval in
images.
"""

from dataclasses import dataclass

from chexdist.config.tree import Config


@dataclass(frozen=True)
class Phase:
    """Something done every `every` images; `gain` is the number of batches that one of them stands for."""

    name: str
    every: int
    gain: float = 1.0

    def due(self, before: int, after: int) -> bool:
        """Whether a multiple of `every` lies in the images from `before` (exclusive) to `after`
        (inclusive).
        """
        return after // self.every > before // self.every


def phases(config: Config) -> list[Phase]:
    """The regularisation schedule of a run.

    A penalty that is computed lazily is weighted by the number of batches that it stands for, so that its
    mean is that of one with every batch (Karras 2020, "Analyzing and Improving the Image Quality of
    StyleGAN", sec. 3.1)."""
    batch, penalty = config.train.batch, config.penalty
    schedule = [Phase("generator", batch * config.train.n_critic)]
    if penalty.name != "none":
        every = max(penalty.every, batch)
        schedule.append(Phase("penalty", every, gain=every / batch))
    return schedule
