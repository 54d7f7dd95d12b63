"""Folders of pictures for `chexdist evaluate --pictures`, and the command."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chexdist.__main__ import main

CLASSES = ("no_finding", "finding")
OPTIONS = ("--samples", "64", "--pairs", "16", "--extractor", "random-conv")


def draw(path: Path, seed: int = 0, side: int = 32, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def evaluate(pictures: Path, shards: Path, *words: str) -> int:
    return main(["evaluate", "--pictures", str(pictures), "--data.shards", str(shards), *OPTIONS, *words])
