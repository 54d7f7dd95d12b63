"""Decides what `chexdist evaluate` measures of a trained generator, and what stands beside it: the same of real images."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Together
from chexdist.distributed.world import World
from chexdist.errors import WorkError
from chexdist.evaluation.pairing import Pairs, Scored
from chexdist.evaluation.reference import RealImages, Reference, chunks
from chexdist.metrics import fid, kid
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import Extractor
from chexdist.metrics.pairs import UNITS, PairProtocol, mean_over_pairs
from chexdist.metrics.protocol import Hashed, Protocol
from chexdist.metrics.value import Metric
from chexdist.run.trained import Loaded
from chexdist.training.validation import metric
from shards.progress import Progress

NO_CLASSES = "the model is unconditional, so its images are of no class"
SAME_CLASS, ANY_CLASS = "random, of one class, as many of each class", "random, of any class"


@dataclass(frozen=True)
class Plan:
    """How much is measured: `samples` generated images for KID and FID, as many again of each class; `pairs` in all."""

    split: str
    samples: int
    pairs: int
    seed: int


class Evaluation:
    """The metrics of one generator, the protocols behind their hashes, and by a metric's name why it is not among them.

    Metrics by class are for conditional models only. All that is drawn is a function of the seed.

    Raises:
        WorkError: a shard is damaged, or the weights are.
    """

    def __init__(
        self,
        loaded: Loaded,
        manifest: Manifest,
        extractor: Extractor,
        plan: Plan,
        device: torch.device,
    ) -> None:
        self.loaded, self.manifest, self.extractor, self.plan = loaded, manifest, extractor, plan
        self.device = device
        self.real = RealImages(manifest, extractor, device, Together(World(0, 1, 0, 0), timeout_seconds=0))
        self.conditional = loaded.config.model.conditional
        self.metrics: list[Metric] = []
        self.protocols: dict[str, dict[str, object]] = {}
        self.refused: dict[str, str] = {}
        loaded.generator.to(device)
        self.measure_distances()
        self.measure_pairs()
        if not self.conditional:
            names = (kid.NAME, *UNITS)
            self.refused |= {f"{name}/{each}": NO_CLASSES for each in manifest.classes for name in names}

    def measure_distances(self) -> None:
        """KID, by class too, and FID."""
        plan = self.plan
        protocol = Protocol.of(
            self.extractor,
            image_size=self.manifest.size,
            reference=self.manifest.digest,
            reference_split=plan.split,
            n=plan.samples,
        )
        shown = self.real.shown(plan.samples)
        total = len(self.manifest.splits[plan.split]) + len(shown)
        with Progress("features of real images", total, "images") as progress:
            reference = self.real.reference(plan.split, shown)
            mean = self.real.mean_features(shown).expand(plan.samples, -1)
            progress.advance(total)
        generated = self.features(None, "any class")
        self.kid("", reference, {"": generated, "/mean_image": mean}, protocol)
        self.fid(reference, generated, protocol)
        for label, name in enumerate(self.manifest.classes) if self.conditional else ():
            own = replace(protocol, reference_split=f"{plan.split}, class {name}")
            self.kid(f"/{name}", reference.only(label), {"": self.features(label, f"class {name}")}, own)

    def features(self, label: int | None, what: str) -> Tensor:
        """Features [samples, D] of generated images, on the CPU."""
        parts = []
        what = f"features of generated images of {what}"
        with Progress(what, self.plan.samples, "images") as progress:
            for rows in chunks(range(self.plan.samples)):
                parts.append(self.extractor.features(self.drawn(rows, label)).cpu())
                progress.advance(len(rows))
        return torch.cat(parts)

    def drawn(self, rows: range, label: int | None) -> Tensor:
        """Generated images. Raises WorkError where the weights are broken."""
        images = self.loaded.sample(self.plan.seed, rows, label)
        if not bool(torch.isfinite(images).all()):
            raise WorkError(f"checkpoint images-{self.loaded.images} draws images that are not finite")
        return images

    def kid(self, suffix: str, reference: Reference, sides: dict[str, Tensor], protocol: Protocol) -> None:
        """KID of each side's features, beside that of real images."""
        name = kid.NAME + suffix
        try:
            floor = reference.floor()
            measured = {f"{name}{side}": reference.kid(features) for side, features in sides.items()}
        except Refusal as refusal:
            self.refused[name] = str(refusal)
            return
        for each, estimate in {**measured, f"{name}/real": floor}.items():
            self.record(each, kid.UNIT, estimate, floor, protocol)

    def fid(self, reference: Reference, generated: Tensor, protocol: Protocol) -> None:
        """FID where there are enough images on every side."""
        held_out = reference.held_out.features
        try:
            value, floor = (fid.fid(held_out, side) for side in (generated, reference.training.features))
        except Refusal as refusal:
            self.refused[fid.NAME] = str(refusal)
            return
        self.record(fid.NAME, fid.UNIT, value, floor, protocol)
        self.refused[f"{fid.NAME} interval"] = fid.NO_INTERVAL

    def measure_pairs(self) -> None:
        """PSNR, MSE and SSIM of random pairs: of one class each, or of any where the model has no classes."""
        pairs, split, classes = self.plan.pairs, self.plan.split, self.manifest.classes
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
            self.refused |= {name: "a class has no pairs" for name in UNITS}
        for name, both in zip(classes, scored, strict=True):
            if both:
                self.means(f"/{name}", *both, SAME_CLASS, f"{split}, class {name}")

    def scored(self, label: int | None, n: int, what: str, suffix: str) -> tuple[Scored, Scored] | None:
        """Scores of n pairs with generated images, and of as many as there are with training images."""
        plan = self.plan
        try:
            pairs = Pairs.draw(self.manifest, plan.split, label, n, plan.seed)
        except Refusal as refusal:
            self.refused |= {f"{name}{suffix}": str(refusal) for name in UNITS}
            return None
        patients = self.manifest.splits[plan.split].patient[pairs.held_out].tolist()
        first = n * (label or 0)  # other latents for each class, so that no two of its images are alike

        def generated(places: range) -> Tensor:
            return self.drawn(range(first + places.start, first + places.stop), label)

        def training(places: range) -> Tensor:
            return self.real.images("train", pairs.training[places]).to(self.device)

        def held_out(places: range) -> Tensor:
            return self.real.images(plan.split, pairs.held_out[places]).to(self.device)

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
        for name, unit in UNITS.items():
            try:
                value, floor = (
                    mean_over_pairs(side.scores[name], side.patients) for side in (generated, real)
                )
            except Refusal as refusal:
                self.refused[name + suffix] = str(refusal)
                continue
            self.record(name + suffix, unit, value, floor, protocol)
            self.record(f"{name}{suffix}/real", unit, floor, floor, protocol)

    def record(self, name: str, unit: str, estimate: Estimate, floor: Estimate, protocol: Hashed) -> None:
        """Keep a metric and its protocol."""
        config, images = self.loaded.config, self.loaded.images
        self.metrics.append(metric(config, images, name, unit, estimate, floor.value, protocol.hash))
        self.protocols[protocol.hash] = asdict(protocol)  # type: ignore[call-overload]
