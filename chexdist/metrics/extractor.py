"""Decides how a network of `extractors` turns images into features: its input, precision and batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractors import EXTRACTORS
from chexdist.metrics.full_float32 import full_float32
from chexdist.metrics.preprocess import preprocess

BATCH = 16  # bounds memory; the features of an image do not depend on it beyond rounding


@dataclass(frozen=True)
class Extractor:
    """A frozen network from images to features. `digest` pins its parameters (see `load_extractor`)."""

    name: str
    digest: str
    dim: int
    input_size: int
    network: nn.Module

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim], float32, of gray images [N, 1, S, S] in [-1, 1], on the images' device.

        Computed in full float32 whatever autocast or TF32 setting is on outside. Raises ValueError as
        `preprocess` does.
        """
        network = self.network.to(images.device)
        parts = [torch.empty(0, self.dim, device=images.device)]
        with full_float32(images.device):
            for batch in images.split(BATCH):
                inputs = preprocess(batch, self.input_size).contiguous(memory_format=torch.channels_last)
                parts.append(network(inputs))
        return torch.cat(parts)


def load_extractor(name: str = "efficientnet-lite0") -> Extractor:
    """The extractor called `name`, on the CPU.

    Its digest is that of the weights' file, or of the seeded parameters. Raises UserError for an unknown name
    or where the weights are not installed, and WorkError for a weights' file with another digest.
    """
    if name not in EXTRACTORS:
        raise UserError(f"unknown extractor {name!r}; known: {', '.join(EXTRACTORS)}")
    definition = EXTRACTORS[name]
    network, digest = definition.load()
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Extractor(name, digest, definition.FEATURES, definition.INPUT_SIZE, network)
