"""What a measurement of a run's generator becomes: a line of the log."""

import time

from chexdist.config.tree import Config
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.value import Metric


def line_of(
    config: Config | None,
    images: int,
    name: str,
    unit: str,
    estimate: Estimate,
    real_baseline: float | None,
    protocol: str,
) -> Metric:
    """The estimate under a metric's name, of the generator after so many images, measured now.

    Without a configuration, of images whose generator nobody knows, the step is 0.
    """
    return Metric(
        images=images,
        step=images // config.train.batch // config.train.n_critic if config else 0,
        name=name,
        unit=unit,
        value=estimate.value,
        n=estimate.n_generated,
        low=estimate.low,
        high=estimate.high,
        real_baseline=real_baseline,
        protocol=protocol,
        time=time.time(),
        n_real=estimate.n_real,
        patients=estimate.patients,
    )
