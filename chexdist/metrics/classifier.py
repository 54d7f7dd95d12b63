"""Decides how the classifier of real images is made: which class an image looks like, and which way round.

Linear in the features of `patches`, by ridge regression (for classes, onto one-hot targets: Rifkin, Yeo &
Poggio 2003, "Regularized least-squares classification"): closed form, so the same images give the same
classifier, and there is nothing to tune. An orientation is a comparison of an image with its own reflection:
the score's sign changes with the image, so it errs equally often either way. Whether an image is inverted is
judged of it and its upside-down reflection at once.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.intervals import DRAWS, BootstrapWeights, numbered
from chexdist.metrics.patches import FEATURES, FILTERS_SHAPE, REFLECTIONS, draw_filters, features, reflected
from chexdist.metrics.protocol import Hashed
from chexdist.metrics.share import of_draws

STRENGTH = 1.0
"""Of the ridge, in units of the mean eigenvalue of the inputs' second moments."""
LEAST_SCALE = 1e-3
VERSION = 1
"""Raise it when a change here or in `patches` moves a classifier: cached ones are trained anew."""
CHUNK = 2048


@dataclass(frozen=True)
class ClassifierProtocol(Hashed):
    """How a share of images was measured by a classifier.

    reference: digest of the real images; trained_on: training images that it is made of; chance: the largest
    class's share of the held-out images, which always naming that class would reach (orientation: 0.5); n:
    images judged.
    """

    image_size: int
    reference: str
    reference_split: str
    trained_on: int
    chance: float
    n: int
    classifier: str = "ridge regression on random patches of 32 px thumbnails"
    version: int = VERSION


@dataclass(frozen=True)
class Classifier:
    """What was learnt of thumbnails of real images.

    filters: as `patches.draw_filters` gives them; scale: float64 [FEATURES], by which features are divided;
    weights: float64 [FEATURES, classes + 3], of the classes, then of `REFLECTIONS`; bias: float64 [classes].
    """

    filters: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, images: Tensor, labels: Tensor, classes: int) -> Self:
        """Of thumbnails [N, SIDE, SIDE] of real images and their classes, int64 [N].

        Raises TooFewImages where the images are flat or fewer than 2, or a class has none.
        """
        if len(images) < 2:
            raise TooFewImages("a classifier needs 2 training images at least")
        filters = draw_filters(images)
        seen = features(filters, images).double()
        scale = _scale(seen)
        ridge = _Ridge.fit(seen / scale, labels, classes)
        weights = [ridge.weights / scale[:, None]]
        for reflection in REFLECTIONS:
            sides = (seen + reflected(seen, "upside_down")) / 2 if reflection == "inverted" else seen
            solver = _solver((sides - reflected(sides, reflection)) / scale)
            weight = solver.sum(1) / scale  # the target is 1 for every image, -1 for its reflection
            weights.append((weight - reflected(weight, reflection))[:, None])
        return cls(filters, scale, torch.cat(weights, 1), ridge.bias - ridge.mean @ ridge.weights)

    def tensors(self) -> dict[str, Tensor]:
        """The fields, for a file."""
        return {field.name: getattr(self, field.name).contiguous() for field in fields(self)}

    @classmethod
    def of(cls, tensors: dict[str, Tensor], classes: int) -> Self:
        """What `tensors` gave. Raises ValueError for other names, shapes, dtypes or values."""
        expected = {
            "filters": (FILTERS_SHAPE, torch.float32),
            "scale": ((FEATURES,), torch.float64),
            "weights": ((FEATURES, classes + len(REFLECTIONS)), torch.float64),
            "bias": ((classes,), torch.float64),
        }
        if {name: (tuple(each.shape), each.dtype) for name, each in tensors.items()} != expected:
            raise ValueError("these tensors are no classifier's")
        if not all(bool(torch.isfinite(each).all()) for each in tensors.values()):
            raise ValueError("a classifier's tensors are not finite")
        return cls(**tensors)

    @property
    def classes(self) -> int:
        return len(self.bias)

    def judge(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The likeliest class of thumbnails, int64 [N], and whether they look reflected, bool [N] by name.

        An image that looks inverted is inverted back before it is asked whether it is upside down, and then
        turned upright before it is asked whether it is mirrored, so that each fault is counted once.
        """
        classes = [torch.empty(0, dtype=torch.int64)]
        looks: dict[str, list[Tensor]] = {name: [torch.empty(0, dtype=torch.bool)] for name in REFLECTIONS}
        for chunk in images.split(CHUNK):
            seen = features(self.filters, chunk).double()
            scores = seen @ self.weights[:, : self.classes] + self.bias
            classes.append(scores.argmax(1))
            for column, name in reversed([*enumerate(REFLECTIONS, self.classes)]):
                found = seen @ self.weights[:, column] < 0
                looks[name].append(found)
                seen = torch.where(found[:, None], reflected(seen, name), seen)
        return torch.cat(classes), {name: torch.cat(parts) for name, parts in looks.items()}

    def transfer(
        self,
        training: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor],
        patients: Sequence[Hashable],
    ) -> Estimate:
        """The accuracy on held-out images of a classifier that is trained on others, such as generated ones.

        Both are thumbnails and labels; `patients` [N] are those of the held-out images. It shares the filters
        and the scale, which know no labels. The draws weight patients and training images; the classifier
        follows the latter by one Newton step (Schucany & Wang 1991, "One-step bootstrapping for smooth
        iterative procedures").

        Raises TooFewImages where the training images lack a class, or there are no held-out ones.
        """
        (images, labels), (tested, truth) = training, held_out
        if not len(tested):
            raise TooFewImages("no held-out images to test on")
        ridge = _Ridge.fit(features(self.filters, images).double() / self.scale, labels, self.classes)
        inputs = features(self.filters, tested).double() / self.scale - ridge.mean
        scores = inputs @ ridge.weights + ridge.bias
        change = inputs @ ridge.solver + 1 / len(images)  # of a score, by a training image's residual
        random = np.random.Generator(np.random.Philox(0))
        of_patients = BootstrapWeights(random, numbered(patients))
        of_training = BootstrapWeights(random, torch.arange(len(images)))
        relative = len(images) / of_training.totals()[1:]
        true = torch.zeros(DRAWS, dtype=torch.float64)
        for tested, weights in of_patients:
            shifted = scores[tested] - change[tested] @ ridge.residuals + torch.zeros(DRAWS, 1, 1)
            for rows, more in of_training:
                steps = change[tested][:, rows, None] * ridge.residuals[rows]
                shifted += torch.tensordot(more[1:] * relative[:, None], steps, ([1], [1]))
            true += ((shifted.argmax(2) == truth[tested]) * weights[1:]).sum(1)
        found = scores.argmax(1) == truth
        estimate = of_draws(found, true, of_patients.totals()[1:], random, patients)
        return replace(estimate, n_generated=len(images))


@dataclass(frozen=True)
class _Ridge:
    """A ridge regression of one-hot classes on inputs, with an intercept that is not shrunk.

    solver: float64 [FEATURES, N], the weights by the targets; residuals: float64 [N, classes].
    """

    mean: Tensor
    bias: Tensor
    weights: Tensor
    solver: Tensor
    residuals: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, labels: Tensor, classes: int) -> Self:
        """Of inputs float64 [N, FEATURES]. Raises TooFewImages where a class has no image."""
        if missing := len({*range(classes)} - {*labels.tolist()}):
            raise TooFewImages(f"{missing} of {classes} classes have no image to train on")
        targets = torch.nn.functional.one_hot(labels, classes).double()
        mean, bias = inputs.mean(0), targets.mean(0)
        solver = _solver(inputs - mean)
        weights = solver @ (targets - bias)
        residuals = targets - bias - (inputs - mean) @ weights
        return cls(mean, bias, weights, solver, residuals)


def _solver(inputs: Tensor) -> Tensor:
    """S [FEATURES, N] such that S @ targets are the weights of the ridge regression on inputs [N, FEATURES].

    By whichever side is the shorter: (X'X + s)^-1 X' = X' (X X' + s)^-1.
    """
    n, width = inputs.shape
    penalty = STRENGTH * (inputs**2).sum() / width
    if n <= width:
        gram = inputs @ inputs.T
        gram.diagonal().add_(penalty)
        return torch.linalg.solve(gram, inputs).T
    moments = inputs.T @ inputs
    moments.diagonal().add_(penalty)
    return torch.linalg.solve(moments, inputs.T)


def _scale(features: Tensor) -> Tensor:
    """The standard deviation [FEATURES] of features [N, FEATURES], equal for those that reflections swap."""
    variance = features.var(0)
    for reflection in REFLECTIONS:
        variance = (variance + reflected(variance, reflection)) / 2
    return variance.sqrt() + LEAST_SCALE
