"""Decides what is measured of random pairs: of one class each, or of any where there are no classes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from chexdist.evaluation.findings import Findings
from chexdist.evaluation.pairing import Pairs, Scored
from chexdist.evaluation.reference import RealImages
from chexdist.evaluation.source import Source
from chexdist.metrics import computed_from
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.pairs import PairProtocol, mean_over_own_pairs, mean_over_pairs
from shards.progress import Progress

SAME_CLASS, ANY_CLASS = "random, of one class, as many of each class", "random, of any class"
OWN = {
    SAME_CLASS: "two generated images of one class, each in one pair, as many of each class",
    ANY_CLASS: "two generated images of any class, each in one pair",
}


@dataclass(frozen=True)
class PairNumbers:
    """The metrics of `pairs` random pairs of a generated and a held-out image, and of half as many pairs of
    generated ones, each beside those of real pairs.
    """

    source: Source
    real: RealImages
    split: str
    pairs: int
    seed: int
    device: torch.device

    def measure(self, findings: Findings) -> None:
        """Draw, score and add the numbers. Raises WorkError for a damaged shard or broken weights."""
        classes = self.real.manifest.classes
        if not self.source.conditional:
            both = self._scored(None, self.pairs, "any class", "", findings)
            if both:
                self._means("", *both, ANY_CLASS, "", findings)
            return
        each = max(1, self.pairs // len(classes))
        scored = [
            self._scored(label, each, f"class {name}", f"/{name}", findings)
            for label, name in enumerate(classes)
        ]
        whole = [both for both in scored if both]
        if len(whole) == len(classes):
            generated, real = (Scored.joined([*parts]) for parts in zip(*whole, strict=True))
            self._means("", generated, real, SAME_CLASS, "", findings)
        else:
            for name in (*computed_from("pairs"), *computed_from("own pairs")):
                findings.refuse(name, "a class has no pairs")
        for name, both in zip(classes, scored, strict=True):
            if both:
                self._means(f"/{name}", *both, SAME_CLASS, f", class {name}", findings)

    def _scored(
        self, label: int | None, n: int, what: str, suffix: str, findings: Findings
    ) -> tuple[Scored, Scored] | None:
        """Scores of n pairs with generated images, and of as many as there are with training images."""
        manifest = self.real.manifest
        available = self.source.available(label)
        n = n if available is None else min(n, available)
        try:
            pairs = Pairs.draw(manifest, self.split, label, n, self.seed)
        except Refusal as refusal:
            for name in (*computed_from("pairs"), *computed_from("own pairs")):
                findings.refuse(f"{name}{suffix}", str(refusal))
            return None
        patients = manifest.splits[self.split].patient[pairs.held_out].tolist()
        first = n * (label or 0) if available is None else 0  # no two classes from the same latents

        def generated(numbers: range) -> Tensor:
            return self.source.draw(range(first + numbers.start, first + numbers.stop), label)

        def training(numbers: range) -> Tensor:
            return self.real.images("train", pairs.training[numbers]).to(self.device)

        def held_out(numbers: range) -> Tensor:
            return self.real.images(self.split, pairs.held_out[numbers]).to(self.device)

        known = patients[: len(pairs.training)]
        with Progress(f"pairs of {what}, generated and real", n + len(known), "pairs") as progress:
            return (
                Scored.of(generated, held_out, patients, progress.advance),
                Scored.of(training, held_out, known, progress.advance),
            )

    def _means(
        self, suffix: str, generated: Scored, real: Scored, pairing: str, of_class: str, findings: Findings
    ) -> None:
        """The mean of each score, beside that of real pairs; then the same of pairs of generated images."""
        protocol = PairProtocol(
            pairing=pairing,
            image_size=self.real.manifest.size,
            reference=self.real.manifest.reference,
            reference_split=f"{self.split}{of_class}",
            n=len(generated.patients),
        )
        for name in computed_from("pairs"):
            ours, theirs = (
                partial(mean_over_pairs, side.scores[name], side.patients) for side in (generated, real)
            )
            _add(name + suffix, ours, theirs, protocol, findings)
        own = replace(protocol, pairing=OWN[pairing], reference_split=f"train{of_class}", n=protocol.n // 2)
        for name in computed_from("own pairs"):
            ours, theirs = (partial(mean_over_own_pairs, side.own[name]) for side in (generated, real))
            _add(name + suffix, ours, theirs, own, findings)


def _add(
    name: str,
    generated: Callable[[], Estimate],
    real: Callable[[], Estimate],
    protocol: PairProtocol,
    findings: Findings,
) -> None:
    """A mean beside that of real pairs, unless one of them is refused."""
    try:
        value, baseline = generated(), real()
    except Refusal as refusal:
        findings.refuse(name, str(refusal))
        return
    findings.add(name, value, baseline, protocol)
    findings.add(f"{name}/real", baseline, baseline, protocol)
