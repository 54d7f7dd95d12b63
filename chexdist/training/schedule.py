"""Decides when each part of training is due, and which value a setting has by then. A schedule is data, in
images: phases with their intervals, and values that move."""

import math
from dataclasses import dataclass

from chexdist.config.tree import Config, Ramp


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


@dataclass(frozen=True)
class Values:
    """What the settings that may move are at one batch: a function of the configuration and the images shown
    before it.

    `ema_decay` is the weight of the averaged generator in its update: 0.5 ^ (images of a generator step /
    half-life), where the half-life is at most `ema.ramp` times the images before the batch. 0 for the first
    batch of a run with a ramp: the average begins as the generator after its first step."""

    generator_lr: float
    critic_lr: float
    penalty_weight: float
    augment_probability: float
    ema_decay: float

    @classmethod
    def at(cls, config: Config, images: int) -> "Values":
        """After so many images."""
        step = config.train.batch * config.train.n_critic
        halflife = config.ema.halflife
        if config.ema.ramp:
            halflife = min(halflife, config.ema.ramp * images)
        weight = config.penalty.weight
        assert not isinstance(weight, str), "resolved with the configuration"
        return cls(
            generator_lr=value_at(config.optim.generator.lr, images),
            critic_lr=value_at(config.optim.critic.lr, images),
            penalty_weight=value_at(weight, images),
            augment_probability=value_at(config.augment.probability, images),
            ema_decay=0.5 ** (step / halflife) if halflife else 0.0,
        )


def value_at(value: float | Ramp, images: int) -> float:
    """A constant, or where a ramp is after so many images."""
    if not isinstance(value, Ramp):
        return value
    done = min(1.0, images / value.images)
    if value.shape == "cosine":
        done = (1 - math.cos(math.pi * done)) / 2
    return value.start * (1 - done) + value.end * done


def moving_settings(config: Config, images: int) -> dict[str, float]:
    """The values of those settings that move, after so many images, by their name in the log."""
    values, ramps = Values.at(config, images), {}
    for name, setting, value in (
        ("optim.generator.lr", config.optim.generator.lr, values.generator_lr),
        ("optim.critic.lr", config.optim.critic.lr, values.critic_lr),
        ("penalty.weight", config.penalty.weight, values.penalty_weight),
        ("augment.probability", config.augment.probability, values.augment_probability),
    ):
        if isinstance(setting, Ramp):
            ramps[f"schedule/{name}"] = value
    if config.ema.ramp:
        ramps["schedule/ema.decay"] = values.ema_decay
    return ramps
