"""Where generated images come from that are measured."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from chexdist.config.tree import Config
from chexdist.errors import WorkError
from chexdist.run import layout
from chexdist.run.sampling import between, draw, sampled_labels, sampled_latents
from chexdist.run.trained import Loaded

WAYS, WAY_STEPS = 2, 8
"""Rows from one latent to another, and images in each."""


class Source(Protocol):
    """Images of one generator, or of whatever made them.

    config: the run's settings, or None where no run is known; images: training images that the generator has
    seen; conditional: whether images of one class can be asked for.
    """

    @property
    def config(self) -> Config | None: ...

    @property
    def images(self) -> int: ...

    @property
    def conditional(self) -> bool: ...

    @property
    def brought_from(self) -> int | None:
        """The images' side in pixels, where it is not the shards', to which they are brought; else None."""

    def draw(self, rows: range, label: int | None) -> Tensor:
        """Images [n, 1, S, S] in [-1, 1] of these indices: of any class, or of one.

        Raises:
            WorkError: an image can't be made or read.
        """

    def labels(self, rows: range) -> Tensor:
        """The classes of `draw(rows, None)`, int64 [n]; 0 without classes."""

    def available(self, label: int | None) -> int | None:
        """How many images there are, of any class or of one; None for as many as are asked for."""


@dataclass(frozen=True)
class GeneratorSource:
    """A run's averaged generator, on the device where it is; image i is a function of (weights, seed, i)."""

    loaded: Loaded
    seed: int

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def images(self) -> int:
        return self.loaded.images

    @property
    def conditional(self) -> bool:
        return self.loaded.config.model.conditional

    @property
    def brought_from(self) -> int | None:
        return None

    def draw(self, rows: range, label: int | None) -> Tensor:
        images = self.loaded.sample(self.seed, rows, label)
        if not bool(torch.isfinite(images).all()):
            name = layout.after(self.loaded.images)
            raise WorkError(f"checkpoint {name} draws images that are not finite")
        return images

    def labels(self, rows: range) -> Tensor:
        if not self.conditional:
            return torch.zeros(len(rows), dtype=torch.int64)
        return sampled_labels(self.seed, rows, self.loaded.class_counts)

    def available(self, label: int | None) -> int | None:
        return None

    def ways(self, label: int | None) -> Tensor:
        """Rows of WAY_STEPS images, [WAYS * WAY_STEPS, 1, S, S] in [-1, 1]: from the first latent of `draw`
        to the second, from the third to the fourth, all of one class.
        """
        latents = sampled_latents(self.seed, range(2 * WAYS), self.loaded.config.model.latent)
        rows = [between(latents[way], latents[way + 1], WAY_STEPS) for way in range(0, 2 * WAYS, 2)]
        return draw(self.loaded.generator, torch.cat(rows), label or 0)
