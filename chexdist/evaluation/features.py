"""Decides what is measured in one extractor's features: of all, and by class what is right with few."""

import numpy as np
from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.part import Observed
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.metrics import METRICS, MetricSpec, computed_from, fid
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import Extractor
from chexdist.metrics.protocol import Protocol
from shards.progress import Progress


class FeatureNumbers:
    """Every metric of features of `METRICS`, beside that of real images and, overall, of the mean image."""

    def __init__(self, real: RealImages, extractor: Extractor, split: str, samples: int) -> None:
        self.real, self.extractor, self.split, self.samples = real, extractor, split, samples

    def prepare(self) -> None:
        splits, shown = self.real.manifest.splits, self.real.shown(self.samples)
        # All training images are for FID to them: where that can't be right, they need not be embedded.
        enough = min(self.samples, len(splits["train"])) >= fid.images_needed(self.extractor.dim)
        train = np.arange(len(splits["train"])) if enough else shown
        total = len(splits[self.split]) + len(train)
        with Progress(f"features of real images, {self.extractor.name}", total, "images") as progress:
            self.reference = self.real.reference(self.extractor, self.split, shown, train)
            self.mean = self.real.mean_features(self.extractor, shown)
            progress.advance(total)

    def observe(self, images: Tensor) -> Tensor:
        return self.extractor.features(images).cpu()

    def conclude(self, observed: Observed, findings: Findings) -> None:
        metrics = computed_from("features")
        mean = self.mean.expand(len(observed.whole), -1)
        for name, spec in metrics.items():
            sides = {"": observed.whole, "/mean_image": mean} if spec.few_images else {"": observed.whole}
            self._compare(name, "", self.reference, sides, findings)
        for label, (each, generated) in enumerate(observed.by_class.items()):
            for name in (name for name, spec in metrics.items() if spec.few_images):
                self._compare(name, each, self.reference.only(label), {"": generated}, findings)

    def _compare(
        self, name: str, of_class: str, reference: Reference, sides: dict[str, Tensor], findings: Findings
    ) -> None:
        """A metric of each side's features, beside that of real images."""
        spec, suffix = METRICS[name], f"/{of_class}" if of_class else ""
        measured: dict[str, Estimate] = {}
        real: Estimate | None = None
        try:
            measured = {side: reference.measure(spec, features) for side, features in sides.items()}
            real = reference.real_baseline(spec, len(sides[""]))
        except Refusal as refusal:
            if spec.few_images or not measured:
                findings.refuse(name + suffix, str(refusal))
                return
            findings.refuse(f"{name}{suffix}/real", str(refusal))
        if measured[""].no_interval:
            findings.refuse(f"{name} interval", measured[""].no_interval)
        if real and spec.few_images:
            measured["/real"] = real
        n = measured[""].n_generated
        protocol = feature_protocol(self.real.manifest, self.extractor, spec, self.split, n, of_class)
        for side, estimate in measured.items():
            findings.add(f"{name}{suffix}{side}", estimate, real, protocol)


def feature_protocol(
    manifest: Manifest, extractor: Extractor, spec: MetricSpec, split: str, n: int, of_class: str = ""
) -> Protocol:
    """How a metric of n generated images' features was measured: of all, or of one class."""
    where = reference_name(spec, split)
    return Protocol.of(
        extractor,
        image_size=manifest.size,
        reference=manifest.reference,
        reference_split=f"{where}, class {of_class}" if of_class else where,
        n=n,
    )


def reference_name(spec: MetricSpec, split: str) -> str:
    """What a protocol calls the real images that a metric's generated ones are measured against."""
    names = {"held-out": split, "training": "train", "training halves": "train, half of the patients"}
    return names[spec.reference]
