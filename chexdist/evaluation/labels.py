"""Decides what a classifier of real images is asked about generated ones: is the label obeyed, is left left?

The classifier (`metrics.classifier`) is made of training images. Every share is beside the same of held-out
images, where the classifier errs too; where it can't tell those, there is no number.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from chexdist.data.user_cache import user_cache
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.part import NO_CLASSES, Observed
from chexdist.evaluation.reference import RealImages, chunks
from chexdist.metrics.classifier import VERSION, Classifier, ClassifierProtocol
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.patches import REFLECTIONS, SIDE, thumbnails
from chexdist.metrics.share import share
from shards.files import replace_file
from shards.progress import Progress

MOST_TRAINING = 4096
"""Images of which a classifier is made; of more, as many from all over the split."""
DIGEST = 32
COIN = 0.5
"""The share of images that look mirrored, or upside down, to somebody who can't tell."""


class LabelNumbers:
    """Accuracy of labels, of a classifier of generated images, and shares of images the wrong way round."""

    def __init__(self, real: RealImages, split: str) -> None:
        self.real, self.split = real, split

    def prepare(self) -> None:
        manifest = self.real.manifest
        known = manifest.splits[self.split]
        self.patients, self.truth = known.patient.tolist(), torch.from_numpy(known.label)
        self.held_out = self._thumbnails(self.split, np.arange(len(known)))
        self.why_not = ""
        try:
            self.classifier = self._cached()
        except Refusal as refusal:
            self.why_not = str(refusal)
        else:
            self.seen, self.looks = self.classifier.judge(self.held_out)

    def observe(self, images: Tensor) -> Tensor:
        return thumbnails(images)

    def conclude(self, observed: Observed, findings: Findings) -> None:
        if self.why_not:
            for name in ("label_accuracy", "transfer_accuracy", *REFLECTIONS):
                findings.refuse(name, self.why_not)
            return
        seen, looks = self.classifier.judge(observed.whole)
        of_class = {name: self.classifier.judge(each) for name, each in observed.by_class.items()}
        anyone = torch.ones(len(self.truth), dtype=torch.bool)
        if of_class:
            correct = seen == observed.labels
            if self._compare("label_accuracy", "", correct, self.seen == self.truth, anyone, findings):
                for label, (name, (own, _)) in enumerate(of_class.items()):
                    chosen = self.truth == label
                    self._compare("label_accuracy", name, own == label, self.seen == label, chosen, findings)
            self._transfer(observed, findings)
        else:
            findings.refuse("label_accuracy", NO_CLASSES)
            findings.refuse("transfer_accuracy", NO_CLASSES)
        for reflection in REFLECTIONS:
            real = self.looks[reflection]
            if self._compare(reflection, "", looks[reflection], real, anyone, findings):
                for label, (name, (_, look)) in enumerate(of_class.items()):
                    self._compare(reflection, name, look[reflection], real, self.truth == label, findings)

    def _compare(
        self, name: str, of_class: str, found: Tensor, real: Tensor, chosen: Tensor, findings: Findings
    ) -> bool:
        """A share of generated images beside that of the `chosen` held-out ones; whether it could be had."""
        suffix = f"/{of_class}" if of_class else ""
        patients = [patient for patient, own in zip(self.patients, chosen.tolist(), strict=True) if own]
        try:
            baseline = share(real[chosen], patients)
            estimate = share(found, None)
            if not of_class:
                self._require_skill(name, baseline)
        except Refusal as refusal:
            findings.refuse(name + suffix, str(refusal))
            return False
        estimate = replace(estimate, n_real=baseline.n_real, patients=baseline.patients)
        self._add(name, suffix, of_class, estimate, baseline, findings)
        return True

    def _transfer(self, observed: Observed, findings: Findings) -> None:
        """Trained on generated images, tested on held-out ones, beside as many training images."""
        name, held_out = "transfer_accuracy", (self.held_out, self.truth)
        n = min(len(observed.whole), MOST_TRAINING, len(self.real.manifest.splits["train"]))
        numbers = self.real.shown(n)
        labels = torch.from_numpy(self.real.manifest.splits["train"].label[numbers])
        try:
            baseline = self.classifier.transfer(
                (self._thumbnails("train", numbers), labels), held_out, self.patients
            )
            self._require_skill(name, baseline)
            generated = (observed.whole[:n], observed.labels[:n])
            estimate = self.classifier.transfer(generated, held_out, self.patients)
        except Refusal as refusal:
            findings.refuse(name, str(refusal))
            return
        self._add(name, "", "", estimate, baseline, findings)

    def _require_skill(self, name: str, real: Estimate) -> None:
        """Raises Refusal where the classifier does no better on held-out images than chance."""
        assert real.low is not None and real.high is not None
        chance = self._chance(name)
        if name in REFLECTIONS and real.high >= chance:
            raise Refusal(
                f"of held-out images that are not {name.replace('_', ' ')} the classifier calls "
                f"{real.value:.2f} [{real.low:.2f}, {real.high:.2f}] so: it can't tell which are"
            )
        if name not in REFLECTIONS and real.low <= chance:
            raise Refusal(
                f"on held-out images a classifier of real ones is right in {real.value:.2f} "
                f"[{real.low:.2f}, {real.high:.2f}], and always naming the largest class in {chance:.2f}: "
                "it can't tell the classes"
            )

    def _chance(self, name: str) -> float:
        if name in REFLECTIONS:
            return COIN
        return max(self.real.manifest.class_counts(self.split)) / len(self.truth)

    def _add(
        self, name: str, suffix: str, of_class: str, estimate: Estimate, real: Estimate, findings: Findings
    ) -> None:
        manifest = self.real.manifest
        protocol = ClassifierProtocol(
            image_size=manifest.size,
            reference=manifest.reference,
            reference_split=self.split + (f", class {of_class}" if of_class else ""),
            trained_on=min(len(manifest.splits["train"]), MOST_TRAINING),
            chance=round(self._chance(name), 6),
            n=estimate.n_generated,
        )
        findings.add(name + suffix, estimate, real, protocol)
        findings.add(f"{name}{suffix}/real", real, real, protocol)

    def _cached(self) -> Classifier:
        """The classifier of these shards, made once for each user. Raises as `Classifier.fit` does."""
        manifest = self.real.manifest
        decides = [manifest.digest, MOST_TRAINING, VERSION, torch.__version__]
        key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
        file, classes = user_cache() / f"classifier-{key}.safetensors", len(manifest.classes)
        with suppress(OSError, SafetensorError, ValueError):
            content = file.read_bytes()
            if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
                return Classifier.of(load(content[DIGEST:]), classes)
        numbers = self.real.shown(MOST_TRAINING)
        labels = torch.from_numpy(manifest.splits["train"].label[numbers])
        classifier = Classifier.fit(self._thumbnails("train", numbers), labels, classes)
        content = save(classifier.tensors())
        with suppress(OSError):  # it is made again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, hashlib.sha256(content).digest() + content, mode=0o600)
        return classifier

    def _thumbnails(self, split: str, numbers: np.ndarray) -> Tensor:
        """Of real images of these sample numbers."""
        parts = [torch.empty(0, SIDE, SIDE, dtype=torch.uint8)]
        with Progress(f"classifier's images of {split}", len(numbers), "images") as progress:
            for rows in chunks(range(len(numbers))):
                parts.append(thumbnails(self.real.images(split, numbers[rows])))
                progress.advance(len(rows))
        return torch.cat(parts)
