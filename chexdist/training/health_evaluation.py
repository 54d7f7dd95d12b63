"""Decides what an evaluation notes of the health of a training: how the critic scores images that it has
never seen, and how unlike each other generated images are,
and whether their labels are those of real ones.

All ranks compute the same numbers: the critic scores whole chunks, whichever rank has them."""

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from chexdist.distributed.collectives import Collectives
from chexdist.evaluation.reference import CHUNK, Embedded, RealImages
from chexdist.run.sampling import sampled_labels
from chexdist.training.networks import Gan

MOST_SCORED = 256
"""Real images of a split that the critic scores in an evaluation."""
AT_AN_END = 0.98
"""Absolute value, of 1, from which a pixel is at an end of the range."""
FEWEST = 8
"""Images of a class from which its diversity is measured."""


class HeldOutHealth:
    """The critic on training images, on held-out ones and on images of the averaged generator."""

    def __init__(self, gan: Gan, real: RealImages, collectives: Collectives) -> None:
        self.gan, self.real, self.collectives = gan, real, collectives

    @torch.no_grad()
    def measure(self, generated: Tensor) -> dict[str, float]:
        """Of the first generated images [n, 1, S, S] that `sample` draws, on every rank.

        wins_training, wins_held_out: the share of pairs in which a real image's score is higher than a
        generated one's; training_over_held_out: in which a training image's is higher than a held-out one's,
        0.5 for a critic that has learned no image by heart; ends: pixels at the ends of the range.
        """
        gan = self.gan
        labels = sampled_labels(gan.config.train.seed, range(len(generated)), gan.class_counts)
        fake = torch.cat(
            [
                self._score(chunk, label)
                for chunk, label in zip(generated.split(CHUNK), labels.split(CHUNK), strict=True)
            ]
        )
        training, held_out = self._real("train"), self._real(gan.config.eval.split)
        return {
            "health/wins_training": wins(training, fake),
            "health/wins_held_out": wins(held_out, fake),
            "health/training_over_held_out": wins(training, held_out),
            "health/ends": float((generated.abs() >= AT_AN_END).double().mean()),
        }

    def _real(self, split: str) -> Tensor:
        """Scores [n] of images from all over a split, in order."""
        found = self.real.manifest.splits[split]
        samples = np.linspace(0, len(found) - 1, min(len(found), MOST_SCORED)).astype(int)
        chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
        scores = [torch.empty(0)]
        for number in self.collectives.rows_of_rank(len(chunks)):
            labels = torch.from_numpy(found.label[chunks[number]].astype(np.int64))
            scores.append(self._score(self.real.images(split, chunks[number]), labels))
        return self.collectives.all_gather(torch.cat(scores))

    def _score(self, images: Tensor, labels: Tensor) -> Tensor:
        """Scores [n] on the CPU, without augmentation, in the precision of the weights."""
        weight = next(self.gan.critic.parameters())
        return self.gan.critic(images.to(weight), labels.to(weight.device)).float().cpu()


def wins(a: Tensor, b: Tensor) -> float:
    """The share of pairs of scores [n], [m] in which the first is higher; a tie counts half."""
    return float(((a[:, None] - b[None, :]).sign().double() + 1).mean() / 2)


def diversity(
    features: Tensor, labels: np.ndarray, real: Embedded, classes: tuple[str, ...]
) -> dict[str, float]:
    """How unlike each other generated images are, as a share of the same of held-out real ones: of all, and
    of each class where there are classes.

    The root of the mean squared distance of features of two images, features [n, D], labels [n].
    """
    found = {"health/diversity": _spread(features) / _spread(real.features)}
    for label, name in enumerate(classes):
        ours, theirs = features[torch.from_numpy(labels == label)], real.only(label).features
        if min(len(ours), len(theirs)) >= FEWEST:
            found[f"health/diversity/{name}"] = _spread(ours) / _spread(theirs)
    return found


def label_agreement(features: Tensor, labels: np.ndarray, real: Embedded, classes: int) -> float | None:
    """How well images' labels agree with those of held-out ones: 1 always, 0.5 by chance, 0 if swapped.

    The mean over pairs of classes of the share of pairs of an image of each, features [n, D], labels [n], in
    which that of the first class lies further on the way from the held-out images of the second to those of
    the first. None where there are no two classes of FEWEST images each.
    """
    known = [
        (features[torch.from_numpy(labels == label)].double(), real.only(label).features.double())
        for label in range(classes)
    ]
    known = [each for each in known if min(map(len, each)) >= FEWEST]
    found = []
    for (ours, held_out), (others, held_out_others) in combinations(known, 2):
        way = held_out.mean(0) - held_out_others.mean(0)
        found.append(wins(ours @ way, others @ way))
    return sum(found) / len(found) if found else None


def _spread(features: Tensor) -> float:
    """The mean over pairs |a - b|^2 is twice the sum of variances, n - 1 in the denominator."""
    return max(1e-12, float((2 * features.double().var(0).sum()).sqrt()))
