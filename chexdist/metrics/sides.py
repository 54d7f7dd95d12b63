"""What a metric of features gets: two sets of features, which images depend on each other, their weights.

The independent units are real patients and generated images (`intervals`).
"""

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.intervals import BootstrapWeights, bootstrap_interval, numbered

Result = TypeVar("Result")

MIN_UNITS = 16  # resampled X-rays: KID's interval covers the truth in 98 % of the cases here, 95 % at 150
BLOCK = 512  # images whose features are held in float64 at once
REMEMBERED = (
    8  # results of each remembered function: of a few sides, between real images and of generated ones
)


@dataclass(frozen=True)
class Side:
    """Features [N, D] in any float dtype, each image's unit, int64 [N] from 0, and the number of patients.

    Images of one unit depend on each other. Without patients, `patients` is None and each image is a unit.
    """

    features: Tensor
    units: Tensor
    patients: int | None

    @classmethod
    def of(cls, features: Tensor, patients: Sequence[Hashable] | None, name: str, metric: str) -> "Side":
        """Raises as `Sides.of` does."""
        if features.ndim != 2:
            raise ValueError(f"{name} features have shape {list(features.shape)}; expected [images, size]")
        features = features.detach()
        if not all(bool(torch.isfinite(some).all()) for some in features.split(BLOCK)):
            raise ValueError(
                f"{name} features are not all finite; the extractor's input or the generator is broken"
            )
        if patients is not None and len(patients) != len(features):
            raise ValueError(f"{len(features)} {name} images but {len(patients)} patients")
        units = range(len(features)) if patients is None else patients
        count = len(set(units))
        if count < MIN_UNITS:
            what = "images" if patients is None else "patients"
            raise TooFewImages(
                f"no {metric} from {count} {name} {what}: it needs {MIN_UNITS}, below which its 95 % "
                "interval is untested"
            )
        return cls(features, numbered(units).to(features.device), None if patients is None else count)

    @cached_property
    def digest(self) -> str:
        """Of features and units."""
        digest = hashlib.sha256(
            f"{self.features.dtype} {list(self.features.shape)} {self.features.device}".encode()
        )
        for part in (self.features, self.units):
            digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The numbers [n] of some images and their features [n, D] in float64; each image once, in order."""
        for images in torch.arange(len(self.features), device=self.features.device).split(BLOCK):
            yield images, self.features[images].to(torch.float64)


@dataclass(frozen=True)
class Sides:
    """Two sets of features that a metric compares, and the seed of its bootstrap."""

    real: Side
    generated: Side
    seed: int = 0

    @classmethod
    def of(
        cls,
        metric: str,
        real: Tensor,
        generated: Tensor,
        real_patients: Sequence[Hashable] | None = None,
        generated_patients: Sequence[Hashable] | None = None,
        seed: int = 0,
    ) -> "Sides":
        """Features real [N, D] and generated [M, D] of any float dtype; `metric` is its name in errors.

        `real_patients[i]` is the patient of real image i; None means that all images are independent.
        `generated_patients` is the same of the other side where that side is real too, as for a real
        baseline.

        Raises TooFewImages for fewer than MIN_UNITS patients (or images) on a side, and ValueError for
        features that are not finite or not of one D and for a patient on both sides.
        """
        if real.ndim == generated.ndim == 2 and real.shape[1] != generated.shape[1]:
            raise ValueError(f"real features have size {real.shape[1]}, generated ones {generated.shape[1]}")
        sides = cls(
            Side.of(real, real_patients, "real", metric),
            Side.of(generated, generated_patients, "generated", metric),
            seed,
        )
        if real_patients is not None and generated_patients is not None:
            shared = set(real_patients) & set(generated_patients)
            if shared:
                raise ValueError(f"{len(shared)} patients are on both sides; compare disjoint patients")
        return sides

    def weights(self) -> tuple[BootstrapWeights, BootstrapWeights]:
        """The bootstrap's weights of real images and of generated ones.

        The real ones are drawn first, so that two generators are measured under the same weights of the same
        patients.
        """
        random = np.random.Generator(np.random.Philox(self.seed))
        return BootstrapWeights(random, self.real.units), BootstrapWeights(random, self.generated.units)

    def estimate(self, draws: Tensor) -> Estimate:
        """Of the value and the draws [1 + DRAWS] that belong to the rows of the weights."""
        draws = draws.cpu()
        low, high = bootstrap_interval(draws[1:])
        return Estimate(
            float(draws[0]),
            low,
            high,
            len(self.real.features),
            len(self.generated.features),
            patients=self.real.patients,
            draws=draws[1:],
        )

    @cached_property
    def digest(self) -> str:
        """Of all that a number between these sides depends on."""
        return f"{self.real_digest} {self.generated.digest}"

    @property
    def real_digest(self) -> str:
        """Of all that a number of the real side alone depends on."""
        return f"{self.seed} {self.real.digest}"


def remembered(
    key: Callable[[Sides], str],
) -> Callable[[Callable[[Sides], Result]], Callable[[Sides], Result]]:
    """What several metrics, or several measurements, compute of one content is computed once.

    key: the digest of what the function depends on; the last results are kept by it.
    """

    def decorate(compute: Callable[[Sides], Result]) -> Callable[[Sides], Result]:
        results: dict[str, Result] = {}

        @wraps(compute)
        def of(sides: Sides) -> Result:
            digest = key(sides)
            if digest not in results:
                result = compute(sides)
                if len(results) == REMEMBERED:
                    del results[next(iter(results))]
                results[digest] = result
            else:
                results[digest] = results.pop(digest)
            return results[digest]

        return of

    return decorate
