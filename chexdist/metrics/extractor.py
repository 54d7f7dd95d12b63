"""Decides how a network of `extractors` turns images into features: its input, precision and batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractors import EXTRACTORS
from chexdist.metrics.extractors.spec import FORM, FileSpec, is_spec, parse
from chexdist.metrics.full_float32 import full_float32
from chexdist.metrics.preprocess import AS_EFFICIENTNET_LITE, AS_IMAGENET, Normalised, preprocess

BATCH = 16  # bounds memory; the features of an image do not depend on it beyond rounding
SAME = 1e-3
"""Relative difference that rounding may make between an image's features alone and in a batch."""


@dataclass(frozen=True)
class Extractor:
    """A frozen network from images to features. `digest` pins its parameters (see `load_extractor`)."""

    name: str
    digest: str
    dim: int
    input_size: int
    network: nn.Module
    normalised: Normalised = AS_EFFICIENTNET_LITE
    memory_format: torch.memory_format = torch.channels_last

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [N, dim], float32, of gray images [N, 1, S, S] in [-1, 1], on the images' device.

        Computed in full float32 whatever autocast or TF32 setting is on outside. Raises ValueError as
        `preprocess` does, and UserError where a user's network fails.
        """
        network = self.network.to(images.device)
        parts = [torch.empty(0, self.dim, device=images.device)]
        with full_float32(images.device):
            for batch in images.split(BATCH) if len(images) else ():
                inputs = preprocess(batch, self.input_size, self.normalised)
                parts.append(network(inputs.contiguous(memory_format=self.memory_format)))
        return torch.cat(parts)


def load_extractor(name: str = "efficientnet-lite0") -> Extractor:
    """The extractor called `name`, or of a file (`extractors.spec`), on the CPU.

    Its digest is that of the weights' file, or of the seeded parameters. Raises UserError for an unknown
    name, a file that can't be used, or where the weights are not installed, and WorkError for a weights' file
    with another digest.
    """
    if name in EXTRACTORS:
        definition = EXTRACTORS[name]
        network, digest = definition.load()
        network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return Extractor(name, digest, definition.FEATURES, definition.INPUT_SIZE, network)
    if is_spec(name):
        return _of_file(parse(name))
    raise UserError(f"unknown extractor {name!r}; known: {', '.join(EXTRACTORS)}, or a file as {FORM}")


def _of_file(spec: FileSpec) -> Extractor:
    """The extractor in a user's file, tried on two images."""
    from chexdist.metrics.extractors.files import load  # here, since few need it

    name, digest, network = load(spec)
    network.requires_grad_(False)
    normalised = Normalised.between(*spec.range, spec.channels) if spec.range else AS_IMAGENET
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, spec.size)] * 2, indexing="ij")
    probe = torch.stack([(9 * x + 4 * y * y).cos() * (5 * y + x).sin(), (20 * x * y).sin()])[:, None]
    with torch.no_grad(), full_float32(torch.device("cpu")):
        pair, second = (network(preprocess(each, spec.size, normalised)) for each in (probe, probe[1:]))
    if float((pair[1] - second[0]).norm()) > SAME * float(second.norm()):
        raise UserError(
            f"extractor {spec.file}: an image's features depend on the images beside it, or on chance; "
            "export it in evaluation mode, after model.eval()"
        )
    if float((pair[0] - pair[1]).norm()) <= 1e-6 * float(pair.norm()):
        raise UserError(f"extractor {spec.file} gives different images equal features: is its range right?")
    contiguous = torch.contiguous_format  # a user's graph may view memory in the order that it was made for
    return Extractor(name, digest, pair.shape[1], spec.size, network, normalised, contiguous)
