"""The files of a run, as `train` and `evaluate` write them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from chexdist.metrics.value import Metric

MakeRun = Callable[..., Path]
FIELDS = {"extractor": "efficientnet-lite0", "image_size": 64, "reference": "ab" * 32, "version": 1}
PAIR_NAMES = ("psnr_db_random_pairs_256px", "mse_random_pairs_256px", "ssim_wang2004_random_pairs_256px")
SECRET = "Jane Doe, born 1950"


def protocol(split: str = "val", **fields: object) -> tuple[str, dict[str, Any]]:
    """Hash and fields, as `chexdist.metrics.protocol` names them."""
    document = {**FIELDS, "reference_split": split, "n": 512, **fields}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12], document


def metric(
    name: str, value: float, images: int = 0, half: float | None = 10.0, **fields: Any
) -> dict[str, Any]:
    """A line of metrics.jsonl, checked by the class itself."""
    interval = {"low": None, "high": None} if half is None else {"low": value - half, "high": value + half}
    document = {"images": images, "step": 0, "name": name, "unit": "squared MMD x 1000", "value": value}
    document |= {"n": 512, **interval, "floor": None, "protocol": None, "time": 1.8e9, **fields}
    return Metric.from_dict(document).to_dict()


def grid(path: Path, seed: int, side: int = 64) -> None:
    """Noise, so that no two pictures are the same, and a text that must not leave the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", SECRET)
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(noise).save(path, pnginfo=text)


def training_log(final: float, images: int) -> list[dict[str, Any]]:
    """Baselines, KID from an untrained generator to `final`, losses."""
    of = {"protocol": protocol()[0], "floor": -10.0}
    lines = [metric("kid_x1000/real", -10.0, **of), metric("kid_x1000/mean_image", 1225.0, **of)]
    for part in range(5):
        value = 1700.0 + (final - 1700.0) * part / 4
        lines.append(metric("kid_x1000", value, images * part // 4, **of))
    for part in range(1, 60):
        for name, value in (("loss/critic", 1.3), ("loss/generator", 0.7), ("loss/penalty", 0.1)):
            lines.append(
                metric(name, value + part % 7 / 50, images * part // 59, None, unit="mean per image")
            )
    return sorted(lines, key=lambda line: line["images"])


def evaluate(run: Path, images: int = 1000, split: str = "val", shift: float = 0.0, **changes: Any) -> Path:
    """What `chexdist evaluate` writes in a run with the classes finding and no_finding: evaluation.json."""
    folder = run / "evaluations" / f"images-{images}-{split}"
    protocols, metrics = {}, []
    for of_class in ("", "/finding", "/no_finding"):
        where = split + (of_class and f", class {of_class[1:]}")
        name, fields = protocol(where)
        protocols[name] = fields
        for kind, value in (("", 600.0 + shift), ("/real", -10.0)):
            metrics.append(metric(f"kid_x1000{of_class}{kind}", value, images, protocol=name, floor=-10.0))
        name, fields = protocol(where, pairing="random, of one class")
        protocols[name] = fields
        for index, base in enumerate(PAIR_NAMES):
            for kind, value in (("", 0.5 + index + shift / 1000), ("/real", 0.4 + index)):
                metrics.append(
                    metric(f"{base}{of_class}{kind}", value, images, 0.05, protocol=name, floor=0.4 + index)
                )
    document = {"checkpoint": f"images-{images}", "images": images, "split": split, "seed": 0}
    document |= {"protocols": protocols, "metrics": metrics}
    document |= {"refused": {"fid": "no FID between 80 and 512 images: 1280 features need 2560 of each"}}
    for number, name in enumerate(("finding", "no_finding")):
        grid(folder / f"{name}.png", number + len(str(run)), 32)
    (folder / "evaluation.json").write_text(json.dumps(document | changes))
    return folder / "evaluation.json"
