"""The animation that a training leaves: every grid, in order, with how many images it was drawn after."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import jobs
from PIL import Image

from chexdist.__main__ import main
from chexdist.errors import WorkError
from chexdist.run import layout
from chexdist.run.animation import FRAMES, animate
from chexdist.run.directory import draw_grid


def grids(run: Path, count: int) -> None:
    """Grids of one gray each, darker and darker."""
    (run / "samples").mkdir(parents=True)
    for number in range(count):
        gray = torch.full((64, 1, 16, 16), 1 - 2 * number / count)
        draw_grid(layout.sample(run, layout.after(1000 * number)), gray)


@pytest.mark.parametrize("count", [1, 12, 3 * FRAMES])
def test_it_shows_the_grids_in_order(count: int, tmp_path: Path) -> None:
    grids(tmp_path, count)
    path = animate(tmp_path)
    assert path == tmp_path / "samples" / "learning.webp"
    first = path.read_bytes()
    with Image.open(path) as film:
        shades = []
        for number in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(number)
            shades.append(int(np.asarray(film.convert("L"))[8:16, 8:16].mean()))
    assert len(shades) == min(count, FRAMES) and shades == sorted(shades, reverse=True)
    assert shades[0] > 240 and (count == 1 or shades[-1] < 30)
    animate(tmp_path)
    assert path.read_bytes() == first and len(first) < 200_000


def test_without_grids_there_is_none(tmp_path: Path) -> None:
    assert animate(tmp_path) is None


def test_a_damaged_grid_is_named(tmp_path: Path) -> None:
    grids(tmp_path, 2)
    damaged = layout.sample(tmp_path, layout.after(1000))
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(WorkError, match=r"images-1000\.png is damaged"):
        animate(tmp_path)


def test_a_training_leaves_one(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = jobs.small(shards, run, "vanilla", "--train.images", "64", "--eval.every", "32")
    assert main(words) == 0
    with Image.open(run / "samples" / "learning.webp") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
