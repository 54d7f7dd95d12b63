"""What the benchmarks read: pictures of the procedural phantom, the same on every machine. No torch."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import WorkError
from shards.phantom.anatomy import draw_anatomy, draw_lesion, draw_view
from shards.phantom.projection import render_chest
from shards.progress import Progress
from shards.workers import Workers, default_workers

NOISE = 1.0
"""Deviation of the film noise, gray levels: a 1024 px picture is then a PNG of 400 kB, like a real one."""


def draw_chest(number: int, size: int) -> np.ndarray:
    """Picture `number`, uint8 [size, size]; every other one has a finding."""
    rng = np.random.default_rng(number)
    anatomy, view = draw_anatomy(rng), draw_view(rng)
    lesion = draw_lesion(rng, anatomy, view) if number % 2 else None
    return (render_chest(anatomy, view, lesion, size) * 255).astype(np.uint8)


def folder_of(number: int) -> str:
    """The class folder of picture `number`."""
    return "finding" if number % 2 else "no_finding"


def _write(number: int, root: Path, size: int, exposures: int, originals: int, enlarged: int) -> None:
    """`exposures` PNGs of picture `number` with different noise; an enlarged one of the first `originals`."""
    chest = draw_chest(number, size)
    for exposure in range(exposures):
        _save(chest, (number, exposure), root / "small" / folder_of(number) / f"{number:04d}_{exposure}.png")
    if number < originals:
        large = Image.fromarray(chest).resize((enlarged, enlarged), Image.Resampling.BICUBIC)
        _save(np.asarray(large), (number, -1), root / "large" / folder_of(number) / f"{number:04d}.png")


def _save(chest: np.ndarray, number_exposure: tuple[int, int], path: Path) -> None:
    number, exposure = number_exposure
    rng = np.random.default_rng([number, exposure + 1])
    noisy = chest + NOISE * rng.standard_normal(chest.shape, dtype=np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(path)


def write_pictures(
    root: Path, pictures: int, exposures: int, size: int, originals: int, enlarged: int
) -> None:
    """Write `root/small`, pictures x exposures PNGs of `size` px, and `root/large`, some at `enlarged` px.

    The latter are the first `originals` pictures. Both have a folder for each class, as the shard builder and
    torchvision's ImageFolder take them.
    """
    write = partial(_write, root=root, size=size, exposures=exposures, originals=originals, enlarged=enlarged)
    with Progress("drawing", pictures, "pictures") as progress, Workers(default_workers()) as workers:
        workers.run(write, range(pictures), progress, lambda number: 1, lambda numbers: ["a picture"])


def build_shards(sources: Path, out: Path, size: int, samples_per_shard: int, split: str = "train=1") -> None:
    """Shards of all of `sources`, through the command that users type.

    Raises:
        WorkError: the command failed.
    """
    key = out.with_suffix(".key")  # a fixed one: the same order of samples every time
    key.write_text("5e" * 32)
    key.chmod(0o600)
    command: list[object] = [
        sys.executable,
        "-m",
        "shards",
        "build",
        sources,
        "--out",
        out,
        "--split",
        split,
    ]
    command += ["--size", size, "--samples-per-shard", samples_per_shard, "--key-file", key]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"the shards could not be built: {done.stderr.strip()}")
