"""Decides which images are paired for the metrics of pairs, and scores the pairs.

Every generated image is in one pair, and every training image is of another patient, while held-out images
recur as evenly as they can: there are few. So two pairs depend on each other only through the held-out
patient, and the interval of their mean has to reckon with nothing else (see `pairs.mean_over_pairs`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from chexdist.data.manifest import Manifest, Split
from chexdist.data.order import batch_samples
from chexdist.evaluation.reference import chunks
from chexdist.metrics.estimate import TooFewImages
from chexdist.metrics.pairs import own_pair_scores, pair_scores

ImagesOf = Callable[[range], Tensor]
"""Images [len(numbers), 1, S, S] in [-1, 1] for a range of pair numbers."""


@dataclass(frozen=True)
class Pairs:
    """Which real images are in which pair, by sample number: `held_out` [n], and `training` [m], m <= n.

    Pair i is generated image i with held-out image i; for the real baseline, training image i with it.
    """

    held_out: np.ndarray
    training: np.ndarray

    @classmethod
    def draw(cls, manifest: Manifest, split: str, label: int | None, n: int, seed: int) -> Self:
        """`n` pairs of images of one class, or of any where label is None: a function of the arguments.

        Raises:
            TooFewImages: a split has no image of the class.
        """
        sides = (manifest.splits[split], manifest.splits["train"])
        chosen = [
            np.arange(len(side)) if label is None else np.flatnonzero(side.label == label) for side in sides
        ]
        for side, numbers in zip(sides, chosen, strict=True):
            if not len(numbers):
                name = "any class" if label is None else f"class {manifest.classes[label]}"
                raise TooFewImages(f"no pairs: split {side.name} has no image of {name}")
        held_out, training = chosen
        shuffled = training[batch_samples((len(training),), seed, 0, len(training), 0)]
        return cls(
            held_out=held_out[batch_samples((len(held_out),), seed, 0, n, 0)],
            training=_one_of_each_patient(sides[1], shuffled)[:n],
        )


def _one_of_each_patient(split: Split, samples: np.ndarray) -> np.ndarray:
    """The first image of each patient, in the order of `samples`."""
    _, first = np.unique(split.patient[samples], return_index=True)
    return samples[np.sort(first)]


@dataclass(frozen=True)
class Scored:
    """Scores [n] of pairs by metric, the held-out patient of each pair [n], and scores of own pairs [n // 2].

    An own pair is of two images that follow each other, without the held-out ones; each is in one.
    """

    scores: dict[str, Tensor]
    patients: list[str]
    own: dict[str, Tensor]

    @classmethod
    def of(
        cls, images: ImagesOf, held_out: ImagesOf, patients: list[str], advance: Callable[[int], None]
    ) -> Self:
        """Score as many pairs as there are patients, a few at a time; `advance` counts them."""
        parts, own = [], []
        for numbers in chunks(range(len(patients))):
            drawn = images(numbers)
            parts.append(pair_scores(drawn, held_out(numbers)))
            own.append(own_pair_scores(drawn))
            advance(len(numbers))
        return cls(_joined(parts), patients, _joined(own))

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The pairs of several classes in one, as many of each."""
        n = min(len(part.patients) for part in parts)
        return cls(
            _joined([{name: scores[:n] for name, scores in part.scores.items()} for part in parts]),
            [patient for part in parts for patient in part.patients[:n]],
            _joined([{name: scores[: n // 2] for name, scores in part.own.items()} for part in parts]),
        )


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
