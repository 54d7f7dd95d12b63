"""Decides how many generated images are audited, and which pairs with training images are shown."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chexdist.evaluation.copies import Audit
from chexdist.evaluation.findings import Closest, Findings
from chexdist.evaluation.part import Observed
from chexdist.evaluation.reference import RealImages

RATE = "near_copy_rate"
AUDITED = 256
"""Most images that are audited, the first ones: what the audit costs is to stay small beside the rest."""
SHOWN = 8


@dataclass
class NearCopies:
    """The rate of near-copies of training images, and the most similar pairs.

    It relies on images of any class coming first.
    """

    real: RealImages

    def prepare(self) -> None:
        self.audit = Audit(self.real.manifest)
        self.audit.found  # noqa: B018  # measured now, with its progress
        self._seen = 0
        self._closest: list[tuple[float, int, int, Tensor]] = []

    def observe(self, images: Tensor) -> Tensor:
        """Likeness [n, 1]; NaN of those after the first AUDITED, which are not audited."""
        values = torch.full((len(images), 1), torch.nan)
        chosen = images[: max(0, AUDITED - self._seen)].float().cpu()
        if len(chosen):
            found = self.audit.nearest(chosen)
            values[: len(chosen), 0] = found.value
            for i, (value, index) in enumerate(zip(found.value.tolist(), found.index.tolist(), strict=True)):
                self._closest.append((value, self._seen + i, index, chosen[i]))
            self._closest = sorted(self._closest, key=lambda pair: (-pair[0], pair[1]))[:SHOWN]
        self._seen += len(images)
        return values

    def conclude(self, observed: Observed, findings: Findings) -> None:
        values = observed.whole[~observed.whole.isnan()]
        protocol = self.audit.protocol(len(values))
        real = self.audit.real_rate()
        findings.add(RATE, self.audit.rate(values), real, protocol)
        findings.add(f"{RATE}/real", real, real, protocol)
        keys = self.real.manifest.splits["train"].key
        for value, image, index, picture in self._closest:
            training = self.real.images("train", range(index, index + 1))[0]
            findings.closest.append(Closest(image, str(keys[index]), value, picture, training.float()))
