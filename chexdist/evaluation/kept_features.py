"""Holds features of real images in the run directory: a restart need not embed the same images again."""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chexdist.data.manifest import Manifest
from chexdist.metrics.extractor import Extractor
from chexdist.run import layout
from shards.files import replace_file


def file_of(run: Path, extractor: Extractor, manifest: Manifest, split: str, samples: np.ndarray) -> Path:
    """The file for these samples' features [n, D], by all that they are a function of but the machine."""
    digest = hashlib.sha256(f"{extractor.digest}\n{manifest.digest}\n{split}".encode())
    digest.update(samples.astype("<i8").tobytes())
    return layout.features(run, digest.hexdigest()[:24])


def read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """What `write` wrote; None where there is no such file, it is damaged, or holds something else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path).get("features")
    except (OSError, SafetensorError, ValueError):
        return None
    if found is None or found.shape != shape or found.dtype != torch.float32:
        return None
    return found if bool(torch.isfinite(found).all()) else None


def write(path: Path, features: Tensor) -> None:
    """Replace the file. On a full disk there is none, and the next start embeds again."""
    from safetensors.torch import save

    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, save({"features": features.contiguous()}))
