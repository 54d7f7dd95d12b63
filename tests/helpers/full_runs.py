"""A run's evaluation with every metric of this version, closest pairs, and grids as training draws them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chexdist.metrics import METRICS
from helpers.run_files import metric, protocol

SIDE, GAP, ACROSS = 64, 2, 8
VALUES = {"lower": 0.04, "higher": 0.6, "near real": 0.5}
LIKENESS = [0.93, 0.912, 0.9, 0.871, 0.86, 0.85, 0.8433, 0.82]


def drawn(path: Path, seed: int, count: int) -> np.ndarray:
    """A grid of `count` images of SIDE pixels, eight in a row with gaps; returns the images."""
    coarse = np.random.default_rng(seed).integers(1, 256, (count, 4, 4), np.uint8)
    images = coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)
    rows, step = -(-count // ACROSS), SIDE + GAP
    whole = np.zeros((rows * step + GAP, min(count, ACROSS) * step + GAP), np.uint8)
    for number, image in enumerate(images):
        y, x = (GAP + step * each for each in divmod(number, ACROSS))
        whole[y : y + SIDE, x : x + SIDE] = image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(whole).save(path)
    return images


def measured(shift: float, images: int, extractors: tuple[str, ...]) -> tuple[dict[str, Any], list[Any]]:
    """Protocols and lines of every metric, of all images and of two classes."""
    protocols: dict[str, Any] = {}
    lines: list[Any] = []
    for of_class in ("", "/finding", "/no_finding"):
        for base, spec in METRICS.items():
            if of_class and not spec.few_images:
                continue
            split = {"held-out": "val", "training": "train", "training halves": "train, half of the patients"}
            where = split[spec.reference] + (of_class and f", class {of_class[1:]}")
            for fields in _ways(spec.computed_from, extractors):
                halved = spec.reference == "training halves" or (of_class and "pairs" in spec.computed_from)
                n = 256 if halved else 512
                name, document = protocol(where, **fields, n=n)
                protocols[name] = document
                value = VALUES[spec.better] * (600 if "kid" in base or "fid" in base else 1) + shift
                for kind, change in (("", 0.0), ("/real", 0.011), ("/mean_image", 0.013)):
                    lines.append(
                        metric(
                            f"{base}{of_class}{kind}",
                            value + change,
                            images,
                            0.02,
                            protocol=name,
                            floor=value,
                        )
                        | {"n": n, "unit": "share"}
                    )
    return protocols, lines


def _ways(source: str, extractors: tuple[str, ...]) -> list[dict[str, object]]:
    if source == "features":
        return [{"extractor": each} for each in extractors]
    ways: dict[str, dict[str, object]] = {
        "pairs": {"extractor": None, "pairing": "random, of one class"},
        "own pairs": {"extractor": None, "pairing": "two generated images"},
        "classifier": {"extractor": None, "trained_on": 640},
        "likeness": {"extractor": None, "method": "correlation", "planted": 16},
    }
    return [ways[source]]


def evaluate_fully(
    run: Path,
    images: int = 1000,
    shift: float = 0.0,
    extractors: tuple[str, ...] = ("efficientnet-lite0",),
    course: int = 1,
) -> Path:
    """An evaluation after so many images, and earlier ones of the same; the folder of the last."""
    folder = run
    for number in range(course):
        after = images * (number + 1) // course
        folder = run / "evaluations" / f"images-{after}-val-s512-seed0-abcdef01"
        protocols, lines = measured(shift + (course - 1 - number) * 0.1, after, extractors)
        seed = sum(str(run).encode()) + number
        drawn(folder / "finding.png", seed, 32)
        drawn(folder / "no_finding.png", seed + 100, 32)
        drawn(folder / "latents" / "interpolation.png", seed + 200, 16)
        drawn(folder / "real" / "closest.png", seed + 300, 16)
        document = {"checkpoint": f"images-{after}", "images": after, "split": "val", "seed": 0}
        document |= {"protocols": protocols, "metrics": lines, "refused": {}}
        document["closest"] = [
            {"image": rank, "training": f"{rank:016x}", "likeness": value}
            for rank, value in enumerate(LIKENESS)
        ]
        (folder / "evaluation.json").write_text(json.dumps(document))
    return folder
