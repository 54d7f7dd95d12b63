"""Decides what `chexdist evaluate` measures of a trained generator, beside the same of real images."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.errors import WorkError
from chexdist.evaluation.line import line_of
from chexdist.evaluation.pairing import Pairs, Scored
from chexdist.evaluation.reference import RealImages, Reference, chunks
from chexdist.metrics import METRICS, computed_from
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import Extractor
from chexdist.metrics.pairs import PairProtocol, mean_over_pairs
from chexdist.metrics.protocol import Hashed, Protocol
from chexdist.metrics.value import Metric
from chexdist.run import layout
from chexdist.run.trained import Loaded
from shards.progress import Progress

NO_CLASSES = "the model is unconditional, so its images are of no class"
SAME_CLASS, ANY_CLASS = "random, of one class, as many of each class", "random, of any class"


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is measured: features of `samples` generated images, also of each class; `pairs` in all."""

    split: str
    samples: int
    pairs: int
    seed: int


class Evaluation:
    """Every metric of one generator, the protocols behind their hashes, and why other metrics are missing.

    Metrics by class are for conditional models only. All that is drawn is a function of the seed.

    Raises:
        WorkError: a shard is damaged, or the weights are.
    """

    def __init__(
        self,
        loaded: Loaded,
        manifest: Manifest,
        extractor: Extractor,
        options: EvaluationOptions,
        device: torch.device,
    ) -> None:
        self.loaded, self.manifest, self.extractor, self.options = loaded, manifest, extractor, options
        self.device = device
        alone = Collectives(World(0, 1, 0, 0), timeout_seconds=0)
        self.real = RealImages(manifest, extractor, device, alone)
        self.conditional = loaded.config.model.conditional
        self.metrics: list[Metric] = []
        self.protocols: dict[str, dict[str, object]] = {}
        self.refused: dict[str, str] = {}
        loaded.generator.to(device)
        self.measure_features()
        self.measure_pairs()
        if not self.conditional:
            names = [name for name, spec in METRICS.items() if spec.few_images]
            self.refused |= {f"{name}/{each}": NO_CLASSES for each in manifest.classes for name in names}

    def measure_features(self) -> None:
        """The metrics of features: of all images, and those that are right with few images by class too."""
        options = self.options
        protocol = Protocol.of(
            self.extractor,
            image_size=self.manifest.size,
            reference=self.manifest.digest,
            reference_split=options.split,
            n=options.samples,
        )
        shown = self.real.shown(options.samples)
        total = len(self.manifest.splits[options.split]) + len(shown)
        with Progress("features of real images", total, "images") as progress:
            reference = self.real.reference(options.split, shown)
            mean = self.real.mean_features(shown).expand(options.samples, -1)
            progress.advance(total)
        generated = self.features(None, "any class")
        metrics = computed_from("features")
        for name, spec in metrics.items():
            sides = {"": generated, "/mean_image": mean} if spec.few_images else {"": generated}
            self.compare(name, "", reference, sides, protocol)
        for label, each in enumerate(self.manifest.classes) if self.conditional else ():
            own = replace(protocol, reference_split=f"{options.split}, class {each}")
            sides = {"": self.features(label, f"class {each}")}
            for name in (name for name, spec in metrics.items() if spec.few_images):
                self.compare(name, f"/{each}", reference.only(label), sides, own)

    def features(self, label: int | None, what: str) -> Tensor:
        """Features [samples, D] of generated images, on the CPU."""
        parts = []
        what = f"features of generated images of {what}"
        with Progress(what, self.options.samples, "images") as progress:
            for rows in chunks(range(self.options.samples)):
                parts.append(self.extractor.features(self.drawn(rows, label)).cpu())
                progress.advance(len(rows))
        return torch.cat(parts)

    def drawn(self, rows: range, label: int | None) -> Tensor:
        """Generated images. Raises WorkError where the weights are broken."""
        images = self.loaded.sample(self.options.seed, rows, label)
        if not bool(torch.isfinite(images).all()):
            name = layout.after(self.loaded.images)
            raise WorkError(f"checkpoint {name} draws images that are not finite")
        return images

    def compare(
        self, name: str, suffix: str, reference: Reference, sides: dict[str, Tensor], protocol: Protocol
    ) -> None:
        """A metric of each side's features, beside that of real images."""
        spec = METRICS[name]
        try:
            measured = {side: reference.measure(spec, features) for side, features in sides.items()}
            real = reference.real_baseline(spec)
        except Refusal as refusal:
            self.refused[name + suffix] = str(refusal)
            return
        if measured[""].no_interval:
            self.refused[f"{name} interval"] = measured[""].no_interval
        if spec.few_images:
            measured["/real"] = real
        for side, estimate in measured.items():
            self.record(f"{name}{suffix}{side}", spec.formula.UNIT, estimate, real, protocol)

    def measure_pairs(self) -> None:
        """The metrics of random pairs: of one class each, or of any where the model has no classes."""
        pairs, split, classes = self.options.pairs, self.options.split, self.manifest.classes
        if not self.conditional:
            both = self.scored(None, pairs, "any class", "")
            if both:
                self.means("", *both, ANY_CLASS, split)
            return
        each = max(1, pairs // len(classes))
        scored = [self.scored(label, each, f"class {name}", f"/{name}") for label, name in enumerate(classes)]
        whole = [both for both in scored if both]
        if len(whole) == len(classes):
            generated, real = (Scored.joined([*parts]) for parts in zip(*whole, strict=True))
            self.means("", generated, real, SAME_CLASS, split)
        else:
            self.refused |= {name: "a class has no pairs" for name in computed_from("pairs")}
        for name, both in zip(classes, scored, strict=True):
            if both:
                self.means(f"/{name}", *both, SAME_CLASS, f"{split}, class {name}")

    def scored(self, label: int | None, n: int, what: str, suffix: str) -> tuple[Scored, Scored] | None:
        """Scores of n pairs with generated images, and of as many as there are with training images."""
        options = self.options
        try:
            pairs = Pairs.draw(self.manifest, options.split, label, n, options.seed)
        except Refusal as refusal:
            self.refused |= {f"{name}{suffix}": str(refusal) for name in computed_from("pairs")}
            return None
        patients = self.manifest.splits[options.split].patient[pairs.held_out].tolist()
        first = n * (label or 0)  # other latents for each class, so that no two of its images are the same

        def generated(numbers: range) -> Tensor:
            return self.drawn(range(first + numbers.start, first + numbers.stop), label)

        def training(numbers: range) -> Tensor:
            return self.real.images("train", pairs.training[numbers]).to(self.device)

        def held_out(numbers: range) -> Tensor:
            return self.real.images(options.split, pairs.held_out[numbers]).to(self.device)

        known = patients[: len(pairs.training)]
        with Progress(f"pairs of {what}, generated and real", n + len(known), "pairs") as progress:
            return (
                Scored.of(generated, held_out, patients, progress.advance),
                Scored.of(training, held_out, known, progress.advance),
            )

    def means(self, suffix: str, generated: Scored, real: Scored, pairing: str, split: str) -> None:
        """The mean of each score, beside that of real pairs."""
        protocol = PairProtocol(
            pairing=pairing,
            image_size=self.manifest.size,
            reference=self.manifest.digest,
            reference_split=split,
            n=len(generated.patients),
        )
        for name, spec in computed_from("pairs").items():
            try:
                value, baseline = (
                    mean_over_pairs(side.scores[name], side.patients) for side in (generated, real)
                )
            except Refusal as refusal:
                self.refused[name + suffix] = str(refusal)
                continue
            self.record(name + suffix, spec.formula.UNIT, value, baseline, protocol)
            self.record(f"{name}{suffix}/real", spec.formula.UNIT, baseline, baseline, protocol)

    def record(self, name: str, unit: str, estimate: Estimate, real: Estimate, protocol: Hashed) -> None:
        """Add a metric and its protocol."""
        config, images = self.loaded.config, self.loaded.images
        self.metrics.append(line_of(config, images, name, unit, estimate, real.value, protocol.hash))
        self.protocols[protocol.hash] = asdict(protocol)  # type: ignore[call-overload]
