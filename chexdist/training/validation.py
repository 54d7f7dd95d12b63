"""Decides how a generator is measured while it trains: all ranks generate and embed, all compute the same
numbers.
"""

from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.evaluation.line import line_of
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.metrics import METRICS
from chexdist.metrics.estimate import Estimate, Refusal
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.protocol import Protocol
from chexdist.metrics.value import Metric
from chexdist.run.sampling import prepare, sample
from chexdist.training.networks import Gan


class Validation:
    """Every metric of `metrics.METRICS` that is right with few images, against held-out patients, beside its
    real baseline.

    Features of real images are embedded once. What can't be right is not computed: `refused` says why, by the
    metric's name."""

    def __init__(self, gan: Gan, manifest: Manifest, collectives: Collectives) -> None:
        self.gan, self.collectives = gan, collectives
        self.config = gan.config.eval
        self.extractor = load_extractor(self.config.extractor)
        self.extractor.network.to(gan.device)
        self.real = RealImages(manifest, gan.device, collectives)
        self.refused: dict[str, str] = {}
        self.real_baselines: dict[str, Estimate] = {}
        self.protocol = Protocol.of(
            self.extractor,
            image_size=manifest.size,
            reference=manifest.digest,
            reference_split=self.config.split,
            n=self.config.samples,
        )
        self._reference: Reference | None = None

    def baselines(self) -> list[Metric]:
        """What a generator is measured beside, before training: real images, and always drawing the mean
        image.
        """
        shown = self.real.shown(self.config.samples)
        self._reference = self.real.reference(self.extractor, self.config.split, shown)
        mean = self.real.mean_features(self.extractor, shown).expand(self.config.samples, -1)
        lines = []
        for name, spec in METRICS.items():
            if not spec.in_training:
                continue
            try:
                real, flat = self._reference.real_baseline(spec), self._reference.measure(spec, mean)
            except Refusal as refusal:
                self.refused[name] = str(refusal)
                continue
            self.real_baselines[name] = real
            lines += [self._line(name, "/real", 0, real), self._line(name, "/mean_image", 0, flat)]
        return lines

    def evaluate(self, images: int) -> tuple[list[Metric], Tensor]:
        """Metrics of the averaged generator after so many images, and 64 samples of fixed latents for the
        eye.
        """
        config, counts = self.gan.config, self.gan.class_counts
        prepare(self.gan.ema, config.model.latent, config.train.group, counts, config.train.seed)
        rows = self.collectives.rows_of_rank(self.config.samples)
        drawn = sample(self.gan.ema, config.model.latent, counts, config.train.seed, rows)
        features = self.collectives.all_gather(self.extractor.features(drawn))
        grid = sample(self.gan.ema, config.model.latent, counts, config.train.seed, range(64))
        if self._reference is None:
            return [], grid
        measured = {name: self._reference.measure(METRICS[name], features) for name in self.real_baselines}
        return [self._line(name, "", images, estimate) for name, estimate in measured.items()], grid

    def _line(self, name: str, suffix: str, images: int, estimate: Estimate) -> Metric:
        unit, real = METRICS[name].formula.UNIT, self.real_baselines[name].value
        return line_of(self.gan.config, images, name + suffix, unit, estimate, real, self.protocol.hash)
