"""Decides which lines of the log the sums over ranks of some batches become."""

import time

from chexdist.config.tree import Config
from chexdist.metrics.value import Metric
from chexdist.training.health import rates
from chexdist.training.schedule import moving_settings


def lines_of(config: Config, since: int, t: int, sums: list[float]) -> list[Metric]:
    """Losses, settings that move and measures of health of the batches from `since` to `t`.

    sums: over all ranks, of the losses of critic, penalty and generator, then as `health.NAMES`.
    """
    batch, n_critic = config.train.batch, config.train.n_critic
    real, generated = (t - since) * batch, (t // n_critic - since // n_critic) * batch
    critic, penalty, generator, *health = sums
    counted = {
        "loss/critic": (critic, real),
        "loss/penalty": (penalty, real),
        "loss/generator": (generator, generated),
    }
    if config.penalty.name == "none":
        del counted["loss/penalty"]
    losses = {name: total / count for name, (total, count) in counted.items() if count}
    found = [("mean per image", losses), ("setting", moving_settings(config, (t - 1) * batch))]
    found.append(("mean", rates(health, real, critic)))
    return [
        Metric(t * batch, t // n_critic, name, unit, value, real, None, None, None, None, time.time())
        for unit, values in found
        for name, value in values.items()
    ]
