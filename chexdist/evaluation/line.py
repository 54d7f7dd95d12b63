"""What a measurement of a run's generator becomes: a line of the log."""

import time

from chexdist.config.tree import Config
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.value import Metric


def line_of(
    config: Config,
    images: int,
    name: str,
    unit: str,
    estimate: Estimate,
    real_baseline: float | None,
    protocol: str,
) -> Metric:
    """The estimate under a metric's name, of the generator after so many images, measured now."""
    return Metric(
        images=images,
        step=images // config.train.batch // config.train.n_critic,
        name=name,
        unit=unit,
        value=estimate.value,
        n=estimate.n_generated,
        low=estimate.low,
        high=estimate.high,
        real_baseline=real_baseline,
        protocol=protocol,
        time=time.time(),
    )
