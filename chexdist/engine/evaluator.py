"""Decides how a generator is measured while it trains: all ranks generate and embed, rank 0 collects and computes."""

import time

import numpy as np
import torch
from torch import Tensor

from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import Manifest
from chexdist.data.reader import SampleReader
from chexdist.engine.gan import Gan
from chexdist.engine.together import Together
from chexdist.metrics.extractor import load_extractor
from chexdist.metrics.kid import NAME, Estimate, TooFewImages, kid
from chexdist.metrics.protocol import Protocol
from chexdist.metrics.value import Metric
from chexdist.sampling import prepare, sample

UNIT = "squared MMD x 1000"
CHUNK = 64


class Evaluator:
    """Kernel Inception Distance against held-out patients, beside its floor: the same between real images.

    Features of real images are embedded once. What can't be right is not computed: `refusal` then says why.
    """

    def __init__(self, gan: Gan, manifest: Manifest, together: Together) -> None:
        self.gan, self.manifest, self.together = gan, manifest, together
        self.config = gan.config.eval
        self.extractor = load_extractor(self.config.extractor)
        self.extractor.network.to(gan.device)
        self.reference = manifest.splits[self.config.split]
        self.refusal: str | None = None
        self.floor: Estimate | None = None
        self.protocol = Protocol.of(
            self.extractor,
            image_size=manifest.size,
            reference=manifest.digest,
            reference_split=self.config.split,
            n=self.config.samples,
        )
        self._real: Tensor | None = None

    def baselines(self) -> list[Metric]:
        """What a generator has to beat, measured before training: the floor, and always drawing the mean image."""
        train = self.manifest.splits["train"]
        shown = np.linspace(0, len(train) - 1, min(len(train), self.config.samples)).astype(int)
        self._real = self._embed_real(self.config.split, range(len(self.reference)))
        familiar = self._embed_real("train", shown)
        mean = self._mean_image(shown)
        try:
            self.floor = kid(
                self._real, familiar, self.reference.patient.tolist(), 0, train.patient[shown].tolist()
            )
        except TooFewImages as error:
            self.refusal = str(error)
            return []
        copies = self.extractor.features(mean).cpu().expand(self.config.samples, -1)
        flat = kid(self._real, copies, self.reference.patient.tolist())
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
        if self.refusal or self._real is None:
            return [], grid
        measured = kid(self._real, features, self.reference.patient.tolist())
        return [self._metric(NAME, images, measured)], grid

    def real_images(self, split: str, samples: np.ndarray | range) -> Tensor:
        """Real images [n, 1, S, S] in [-1, 1] of these sample numbers."""
        reader = SampleReader(self.manifest, split, memory_mib=0)
        pixels = torch.from_numpy(reader.read([int(number) for number in samples]).astype(np.int32))
        return to_unit_range(pixels, self.manifest.bits, torch.get_default_dtype())

    def _embed_real(self, split: str, samples: np.ndarray | range) -> Tensor:
        mine = self.together.share(len(samples))
        parts = [torch.empty(0, self.extractor.dim)]
        for start in range(mine.start, mine.stop, CHUNK):
            images = self.real_images(split, samples[start : min(start + CHUNK, mine.stop)])
            parts.append(self.extractor.features(images.to(self.gan.device)).cpu())
        return self.together.rows(torch.cat(parts))

    def _mean_image(self, samples: np.ndarray) -> Tensor:
        """[1, 1, S, S]"""
        mine = self.together.share(len(samples))
        total = torch.zeros(1, self.manifest.size**2, dtype=torch.float64)
        for start in range(mine.start, mine.stop, CHUNK):
            images = self.real_images("train", samples[start : min(start + CHUNK, mine.stop)])
            total += images.double().flatten(1).sum(0)
        mean = self.together.sums(total) / len(samples)
        return mean.view(1, 1, self.manifest.size, self.manifest.size).to(self.gan.device)

    def _metric(self, name: str, images: int, estimate: Estimate) -> Metric:
        batches = images // self.gan.config.train.batch
        return Metric(
            images=images,
            step=batches // self.gan.config.train.n_critic,
            name=name,
            unit=UNIT,
            value=estimate.value,
            n=estimate.n_generated,
            low=estimate.low,
            high=estimate.high,
            floor=self.floor.value if self.floor else None,
            protocol=self.protocol.hash,
            time=time.time(),
        )
