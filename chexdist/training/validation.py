"""Decides how a generator is measured while it trains: all ranks generate, embed and sum up their part, and
have the same numbers.
"""

from pathlib import Path

from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.evaluation.features import feature_protocol
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.metrics import METRICS
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.protocol import Protocol
from chexdist.metrics.sharing import shared
from chexdist.run.sampling import prepare, sample, sampled_labels
from chexdist.training.health_evaluation import HeldOutHealth, diversity, label_agreement
from chexdist.training.networks import Gan


class Validation:
    """Every metric of `metrics.METRICS` that is right with few images, against held-out patients, beside its
    real baseline.

    Real images are embedded once in a run. What can't be right is not computed: `refused` says why, by the
    metric's name."""

    def __init__(self, gan: Gan, manifest: Manifest, collectives: Collectives) -> None:
        self.gan, self.collectives = gan, collectives
        self.config = gan.config.eval
        self.classes = manifest.classes if gan.config.model.conditional else ()
        self.extractor = load_extractor(self.config.extractor)
        collectives.check_same(self.extractor.digest, f"eval.extractor {self.config.extractor}")
        self.extractor.network.to(gan.device)
        run = gan.config.run.dir
        self.real = RealImages(manifest, gan.device, collectives, Path(run) if run else None)
        self.refused: dict[str, str] = {}
        self.real_baselines: dict[str, Estimate] = {}
        self.protocols: dict[str, Protocol] = {}
        self._reference: Reference | None = None
        self.health = HeldOutHealth(gan, self.real, collectives)

    def baselines(self) -> Findings:
        """What a generator is measured beside, before training: real images, and always drawing the mean
        image.
        """
        shown = self.real.shown(self.config.samples)
        self._reference = self.real.reference(self.extractor, self.config.split, shown)
        mean = self.real.mean_features(self.extractor, shown).expand(self.config.samples, -1)
        findings = Findings(self.gan.config, 0)
        for name, spec in METRICS.items():
            if not spec.in_training:
                continue
            try:
                with shared(self.collectives.share):
                    real = self._reference.real_baseline(spec, len(mean))
                    flat = self._reference.measure(spec, mean)
            except Refusal as refusal:
                self.refused[name] = str(refusal)
                continue
            protocol = feature_protocol(
                self.real.manifest, self.extractor, spec, self.config.split, flat.n_generated
            )
            self.real_baselines[name], self.protocols[name] = real, protocol
            findings.add(f"{name}/real", real, real, protocol)
            findings.add(f"{name}/mean_image", flat, real, protocol)
        return findings

    def evaluate(self, images: int) -> tuple[Findings, Tensor, dict[str, float]]:
        """Metrics of the averaged generator after so many images, 64 samples of fixed latents for the eye,
        and the measures of health by name.
        """
        config, counts = self.gan.config, self.gan.class_counts
        prepare(self.gan.ema, config.model.latent, config.train.group, counts, config.train.seed)
        rows = self.collectives.rows_of_rank(self.config.samples)
        drawn = sample(self.gan.ema, config.model.latent, counts, config.train.seed, rows)
        features = self.collectives.all_gather(self.extractor.features(drawn))
        grid = sample(self.gan.ema, config.model.latent, counts, config.train.seed, range(64))
        findings = Findings(self.gan.config, images)
        if self._reference is not None:
            for name, real in self.real_baselines.items():
                with shared(self.collectives.share):
                    measured = self._reference.measure(METRICS[name], features)
                findings.add(name, measured, real, self.protocols[name])
        health = self.health.measure(grid)
        if self._reference is not None:
            labels = sampled_labels(config.train.seed, range(self.config.samples), counts).numpy()
            held_out, training = self._reference.held_out, self._reference.training
            health |= diversity(features, labels, held_out, self.classes)
            of_training = training.split.label[training.samples]
            for name, agreement in (
                ("health/labels", label_agreement(features, labels, held_out, len(self.classes))),
                (
                    "health/labels/training",
                    label_agreement(training.features, of_training, held_out, len(self.classes)),
                ),
            ):
                if agreement is not None:
                    health[name] = agreement
        return findings, grid, health
