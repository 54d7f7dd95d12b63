"""Decides the interval of a share of images, such as a classifier's accuracy.

The Bayesian bootstrap over patients, with half an image of each outcome as Jeffreys' prior for a proportion
has it, so that a share of 0 or 1 has an interval too (Brown, Cai & DasGupta 2001, "Interval estimation for a
binomial proportion", sec. 3.2, which also gives the ends at 0 and 1).
"""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.intervals import DRAWS, BootstrapWeights, bootstrap_interval, numbered

UNIT = "share of images"
PRIOR = 0.5


def share(found: Tensor, patients: Sequence[Hashable] | None) -> Estimate:
    """The share of images of which something is true, bool [N], with its 95 % interval.

    `patients` [N] of real images; None for generated ones, each independent. In the estimate, `n_generated`
    counts the images judged, real or not. Raises TooFewImages for none.
    """
    if not len(found):
        raise TooFewImages("no share of no images")
    draws = np.random.Generator(np.random.Philox(0))
    units = torch.arange(len(found)) if patients is None else numbered(patients)
    weights = BootstrapWeights(draws, units)
    return of_draws(found, weights.sums(found)[1:], weights.totals()[1:], draws, patients)


def of_draws(
    found: Tensor,
    true: Tensor,
    total: Tensor,
    random: np.random.Generator,
    patients: Sequence[Hashable] | None,
) -> Estimate:
    """The share of `found`, bool [N]; in each draw the images found weigh `true` of `total`, [DRAWS] both."""
    prior = torch.from_numpy(random.standard_gamma(PRIOR, (2, DRAWS)))
    draws = (true + prior[0]) / (total + prior.sum(0))
    value = float(found.double().mean())
    low, high = bootstrap_interval(draws)
    n = len(found)
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        n_real=0 if patients is None else n,
        n_generated=n,
        patients=None if patients is None else len(set(patients)),
        draws=draws,
    )
