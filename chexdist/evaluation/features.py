"""Decides what is measured in one extractor's features: of all, and by class what is right with few."""

from dataclasses import replace

from torch import Tensor

from chexdist.evaluation.findings import Findings
from chexdist.evaluation.part import Observed
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.metrics import METRICS, MetricSpec, computed_from
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import Extractor
from chexdist.metrics.protocol import Protocol
from shards.progress import Progress


class FeatureNumbers:
    """Every metric of features of `METRICS`, beside that of real images and, overall, of the mean image."""

    def __init__(self, real: RealImages, extractor: Extractor, split: str, samples: int) -> None:
        self.real, self.extractor, self.split, self.samples = real, extractor, split, samples

    def prepare(self) -> None:
        shown = self.real.shown(self.samples)
        total = len(self.real.manifest.splits[self.split]) + len(shown)
        with Progress(f"features of real images, {self.extractor.name}", total, "images") as progress:
            self.reference = self.real.reference(self.extractor, self.split, shown)
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
        try:
            measured = {side: reference.measure(spec, features) for side, features in sides.items()}
            real = reference.real_baseline(spec)
        except Refusal as refusal:
            findings.refuse(name + suffix, str(refusal))
            return
        if measured[""].no_interval:
            findings.refuse(f"{name} interval", measured[""].no_interval)
        if spec.few_images:
            measured["/real"] = real
        protocol = self._protocol(spec, of_class, measured[""])
        for side, estimate in measured.items():
            findings.add(f"{name}{suffix}{side}", estimate, real, protocol)

    def _protocol(self, spec: MetricSpec, of_class: str, estimate: Estimate) -> Protocol:
        protocol = Protocol.of(
            self.extractor,
            image_size=self.real.manifest.size,
            reference=self.real.manifest.reference,
            reference_split=reference_name(spec, self.split),
            n=estimate.n_generated,
        )
        if not of_class:
            return protocol
        return replace(protocol, reference_split=f"{protocol.reference_split}, class {of_class}")


def reference_name(spec: MetricSpec, split: str) -> str:
    """What a protocol calls the real images that a metric's generated ones are measured against."""
    names = {"held-out": split, "training": "train", "training halves": "train, half of the patients"}
    return names[spec.reference]
