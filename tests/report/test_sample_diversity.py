"""A run whose log has no diversity is judged by how unlike its sample images are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_files import MakeRun

from chexdist.report.collect import collect
from chexdist.report.health import diagnosed, panels
from chexdist.report.sample_diversity import NAME, with_diversity
from chexdist.run.directory import draw_grid

SIDE, IMAGES = 32, 8000


def images(seed: int, modes: int, spread: float, count: int = 64) -> torch.Tensor:
    """Images [count, 1, SIDE, SIDE] about so many centres; the distance of two of one centre is sqrt(2) of
    `spread`.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.3, (modes, 1, SIDE, SIDE))
    drawn = centres[np.arange(count) % modes] + spread * rng.normal(0, 1, (count, 1, SIDE, SIDE))
    return torch.from_numpy(drawn).clamp(-1, 1)


def diversity(run: Path) -> dict[int, float]:
    (record,) = collect([str(run)])
    return {metric.images: metric.value for metric in with_diversity(record) if metric.name == NAME}


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    """Real X-rays that all differ, and one noise image for each of two classes at the end."""
    made = make_run("demo", "dcgan", f"--model.size={SIDE}", images=IMAGES)
    draw_grid(made / "samples" / "real.png", images(0, 64, 0.1))
    draw_grid(made / "samples" / "images-0.png", images(1, 64, 0.05))
    draw_grid(made / "samples" / f"images-{IMAGES}.png", images(2, 2, 0.01))
    return made


def test_one_image_for_each_class_is_a_collapse(run: Path) -> None:
    found = diversity(run)
    assert list(found) == [0, IMAGES] and found[0] > 0.8
    # two of one centre differ by 0.01 sqrt(2); two real ones, each of its own, by sqrt(0.3^2 + 0.1^2) sqrt(2)
    assert found[IMAGES] == pytest.approx(0.01 / np.hypot(0.3, 0.1), rel=0.1)
    (record,) = collect([str(run)])
    verdict = diagnosed(record)
    assert (verdict.name, verdict.detail) == ("collapsed", "whole")
    assert "diversity of generated images" in [panel.title for panel in panels(record)]


def test_images_that_differ_are_no_collapse(run: Path) -> None:
    draw_grid(run / "samples" / f"images-{IMAGES}.png", images(2, 64, 0.1))
    assert diversity(run)[IMAGES] == pytest.approx(1, rel=0.1)
    assert diagnosed(collect([str(run)])[0]).name != "collapsed"


def test_as_many_real_ones_as_there_are(run: Path) -> None:
    """The rest of the last row is black, and is no X-ray."""
    draw_grid(run / "samples" / "real.png", images(0, 64, 0.1)[:13])
    assert diversity(run)[0] > 0.8


@pytest.mark.parametrize("sheet", ("real", f"images-{IMAGES}"))
def test_a_damaged_or_missing_sheet_leaves_the_log_as_it_is(run: Path, sheet: str) -> None:
    path = run / "samples" / f"{sheet}.png"
    path.write_bytes(path.read_bytes()[:200])
    assert IMAGES not in diversity(run)
    path.unlink()
    assert IMAGES not in diversity(run)


def test_a_measure_of_the_log_stands(run: Path) -> None:
    log = run / "metrics.jsonl"
    log.write_text(log.read_text().replace("loss/penalty", NAME))
    assert diversity(run)[IMAGES] > 0.1
