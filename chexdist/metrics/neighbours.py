"""Which images lie among their nearest neighbours' on the other side: what precision, recall, density and
coverage count.

Kynkaanniemi et al. 2019 (arXiv:1904.06991), eq. 1 and 2; Naeem et al. 2020 (arXiv:2002.09797), eq. 3 and 4.
The manifold of a set of images is the union of balls, one around each image's features, that reach to its
K-th nearest neighbour in the set. Recall and coverage see a generator that draws the same images over and
over.

A K-th neighbour is one of another patient, since images of one patient lie near each other and would make
balls small. Where every image is a patient's only one, the numbers are those of the package `prdc`.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.difference import DRAWS
from chexdist.metrics.estimate import Estimate
from chexdist.metrics.intervals import BootstrapWeights
from chexdist.metrics.sides import Side, Sides, remembered

K = 5
SAME = 1e-10  # of their squared norms: squared distances up to here are float32's rounding of equal features


@dataclass(frozen=True)
class Mean:
    """A mean of `values`, one of each image of one side, and what the images of the other side have done to
    it.

    changes: by how much the mean is larger than without each image of the other side (the jackknife, to first
    order), float64.
    """

    values: Tensor
    changes: Tensor


@dataclass(frozen=True)
class Neighbours:
    """The four means; precision and density are over generated images, recall and coverage over real ones."""

    precision: Mean
    recall: Mean
    density: Mean
    coverage: Mean


def over_generated(sides: Sides, mean: Mean, share: bool) -> Estimate:
    """The mean over generated images with its 95 % interval; `share`: of values that are 0 or 1."""
    real, generated = sides.weights()
    return _estimate(sides, mean, (sides.generated, generated), (sides.real, real), share)


def over_real(sides: Sides, mean: Mean) -> Estimate:
    """The share of real images with its 95 % interval."""
    real, generated = sides.weights()
    return _estimate(sides, mean, (sides.real, real), (sides.generated, generated), True)


def _estimate(
    sides: Sides,
    mean: Mean,
    own: tuple[Side, BootstrapWeights],
    other: tuple[Side, BootstrapWeights],
    share: bool,
) -> Estimate:
    """Of a mean over its own side, under both sides' weights: those of the other side by their linear term.

    Without the other side, with the manifolds held fast, intervals cover the truth in 67 to 94 % of cases.
    Efron 1982, "The jackknife, the bootstrap and other resampling plans", section 6.3. A share has Jeffreys'
    prior of half a unit inside and half a unit outside, so that an interval has a width also where all are
    inside (Brown, Cai & DasGupta 2001, "Interval estimation for a binomial proportion", section 3.1.2).
    """
    (side, weights), (_, other_weights) = own, other
    inside, outside = _prior(sides, side) if share else (torch.zeros(()), torch.zeros(()))
    total = weights.totals() + inside + outside
    linear = (len(mean.changes) - 1) * mean.changes
    draws = (weights.sums(mean.values) + inside) / total
    draws = (draws + other_weights.means(linear - linear.mean())).clamp(0, 1 if share else None)
    draws[0] = mean.values.mean()
    found = sides.estimate(draws)
    assert found.low is not None and found.high is not None
    return replace(found, low=min(found.low, found.value), high=max(found.high, found.value))


def _prior(sides: Sides, side: Side) -> tuple[Tensor, Tensor]:
    """Weights [1 + DRAWS] of half a unit that is inside and of half a unit that is not; 0 for the value."""
    random = np.random.Generator(np.random.Philox([sides.seed, 1]))  # other draws than the weights
    drawn = random.standard_gamma(0.5, (2, DRAWS)) * len(side.units) / (int(side.units.max()) + 1)
    weights = torch.from_numpy(np.pad(drawn, ((0, 0), (1, 0)))).to(side.features.device)
    return weights[0], weights[1]


@remembered(lambda sides: sides.digest)
def neighbours(sides: Sides) -> Neighbours:
    """Every image's neighbours on the other side, in float64, a block of each side at a time."""
    real, generated = _balls(sides.real), _balls(sides.generated)
    n, m = len(sides.real.features), len(sides.generated.features)
    # Of each image: how many balls of the other side hold it, and the sum of those balls' numbers.
    holding, holding_sum = real.radius.new_zeros(2, m)
    recalling, recalling_sum = real.radius.new_zeros(2, n)
    # Of each real image: how many generated ones its ball holds, their numbers' sum, how many the next holds.
    held, held_sum, held_next = real.radius.new_zeros(3, n)
    for rows, x in sides.real.blocks():
        for columns, y in sides.generated.blocks():
            distances = squared_distances(x, y)
            inside = (distances < real.radius[rows, None]).to(x.dtype)
            within = (distances < generated.radius[columns]).to(x.dtype)
            holding[columns] += inside.sum(0)
            holding_sum[columns] += rows.to(x.dtype) @ inside
            held[rows] += inside.sum(1)
            held_sum[rows] += inside @ columns.to(x.dtype)
            held_next[rows] += (distances < real.next_radius[rows, None]).to(x.dtype).sum(1)
            recalling[rows] += within.sum(1)
            recalling_sum[rows] += within @ columns.to(x.dtype)
    # Without a real image, the balls of those of which it is a neighbour reach to their next one.
    density = held.index_add(0, real.neighbours.flatten(), (held - held_next).repeat_interleave(K))
    return Neighbours(
        precision=Mean((holding > 0).to(held.dtype), _alone(holding, holding_sum, n)),
        recall=Mean((recalling > 0).to(held.dtype), _alone(recalling, recalling_sum, m)),
        density=Mean(holding / K, density / (K * m)),
        coverage=Mean((held > 0).to(held.dtype), _alone(held, held_sum, m)),
    )


def _alone(counts: Tensor, numbers: Tensor, size: int) -> Tensor:
    """The share of these images [N] that each of `size` of the other side holds alone: float64 [size].

    counts: how many hold each; numbers: the sum of their numbers, so where there is one, its number.
    """
    only = counts == 1
    return torch.bincount(numbers[only].long(), minlength=size).to(torch.float64) / len(counts)


@dataclass(frozen=True)
class _Balls:
    """Of N images: squared radii [N] to the K-th and the next neighbour, and the numbers [N, K] of the K."""

    radius: Tensor
    next_radius: Tensor
    neighbours: Tensor


def _balls(side: Side) -> _Balls:
    radii, numbers = [], []
    for rows, x in side.blocks():
        nearest, who = x.new_full((len(x), 0), 0), rows.new_zeros((len(x), 0))
        for columns, y in side.blocks():
            distances = squared_distances(x, y)
            distances.masked_fill_(side.units[rows, None] == side.units[columns], torch.inf)
            candidates = torch.cat([nearest, distances], 1)
            of = torch.cat([who, columns.expand(len(x), -1)], 1)
            nearest, chosen = candidates.topk(min(K + 1, candidates.shape[1]), dim=1, largest=False)
            who = of.gather(1, chosen)
        radii.append(nearest[:, K - 1 :])
        numbers.append(who[:, :K])
    radius = torch.cat(radii)
    return _Balls(radius[:, 0], radius[:, 1], torch.cat(numbers))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Between rows of x [N, D] and y [M, D]: [N, M], 0 where they are equal but for float32's rounding."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    distances = torch.addmm(norms, x, y.T, alpha=-2)
    return distances.masked_fill_(distances <= SAME * norms, 0)
