"""Decides how a generator is measured while it trains: all ranks generate and embed, rank 0 collects and computes."""

import time

from torch import Tensor

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Together
from chexdist.evaluation.reference import RealImages, Reference
from chexdist.metrics.estimate import Estimate, TooFewImages
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.kid import NAME, UNIT
from chexdist.metrics.protocol import Protocol
from chexdist.metrics.value import Metric
from chexdist.run.trained import prepare, sample
from chexdist.training.networks import Gan


class Evaluator:
    """Kernel Inception Distance against held-out patients, beside its floor: the same between real images.

    Features of real images are embedded once. What can't be right is not computed: `refusal` then says why.
    """

    def __init__(self, gan: Gan, manifest: Manifest, together: Together) -> None:
        self.gan, self.together = gan, together
        self.config = gan.config.eval
        self.extractor = load_extractor(self.config.extractor)
        self.extractor.network.to(gan.device)
        self.real = RealImages(manifest, self.extractor, gan.device, together)
        self.refusal: str | None = None
        self.floor: Estimate | None = None
        self.protocol = Protocol.of(
            self.extractor,
            image_size=manifest.size,
            reference=manifest.digest,
            reference_split=self.config.split,
            n=self.config.samples,
        )
        self._reference: Reference | None = None

    def baselines(self) -> list[Metric]:
        """What a generator has to beat, measured before training: the floor, and always drawing the mean image."""
        shown = self.real.shown(self.config.samples)
        self._reference = self.real.reference(self.config.split, shown)
        mean = self.real.mean_features(shown)
        try:
            self.floor = self._reference.floor()
        except TooFewImages as error:
            self.refusal = str(error)
            return []
        flat = self._reference.kid(mean.expand(self.config.samples, -1))
        return [
            self._metric(f"{NAME}/real", 0, self.floor),
            self._metric(f"{NAME}/mean_image", 0, flat),
        ]

    def evaluate(self, images: int) -> tuple[list[Metric], Tensor]:
        """Metrics of the averaged generator after so many images, and 64 samples of fixed latents for the eye."""
        config, counts = self.gan.config, self.gan.class_counts
        prepare(self.gan.ema, config.model.latent, config.train.group, counts, config.train.seed)
        rows = self.together.share(self.config.samples)
        drawn = sample(self.gan.ema, config.model.latent, counts, config.train.seed, rows)
        features = self.together.rows(self.extractor.features(drawn))
        grid = sample(self.gan.ema, config.model.latent, counts, config.train.seed, range(64))
        if self.refusal or self._reference is None:
            return [], grid
        return [self._metric(NAME, images, self._reference.kid(features))], grid

    def _metric(self, name: str, images: int, estimate: Estimate) -> Metric:
        floor = self.floor.value if self.floor else None
        return metric(self.gan.config, images, name, UNIT, estimate, floor, self.protocol.hash)


def metric(
    config: Config, images: int, name: str, unit: str, estimate: Estimate, floor: float | None, protocol: str
) -> Metric:
    """What was measured of a run's generator after so many images."""
    return Metric(
        images=images,
        step=images // config.train.batch // config.train.n_critic,
        name=name,
        unit=unit,
        value=estimate.value,
        n=estimate.n_generated,
        low=estimate.low,
        high=estimate.high,
        floor=floor,
        protocol=protocol,
        time=time.time(),
    )
