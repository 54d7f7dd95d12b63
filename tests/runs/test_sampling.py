"""`chexdist.load_generator`: the same run, seed and number give the same picture, whatever else is drawn beside it."""

from pathlib import Path

import jobs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import chexdist
from chexdist.errors import UserError
from chexdist.sampling import sample

COUNTS = (30, 40)


@pytest.fixture(scope="module", params=["dcgan", "vanilla"])
def run(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended; its generator has moved far enough that its average is another one."""
    folder = tmp_path_factory.mktemp("trained")
    more = ["--model.conditional", "true", "--optim.generator.lr", "0.01", "--train.images", "96"]
    jobs.run(jobs.small(shards, folder / "run", request.param, *more), folder / "log")
    return folder / "run"


def draw(run: Path, rows: range, seed: int = 0, label: int | None = None) -> Tensor:
    return sample(chexdist.load_generator(run), 8, COUNTS, seed, rows, label)


def test_same_seed_same_images(run: Path) -> None:
    first, second = draw(run, range(20)), draw(run, range(20))
    assert torch.equal(first, second)
    assert first.shape == (20, 1, 32, 32) and first.min() >= -1 and first.max() <= 1
    assert not torch.equal(first, draw(run, range(20), seed=1))
    assert len({image.numpy().tobytes() for image in first}) == 20


def test_an_image_does_not_depend_on_those_beside_it(run: Path) -> None:
    """Up to rounding: a matrix product adds in an order that depends on how many rows it has."""
    many = draw(run, range(130))  # more than are generated at once
    for rows in (range(1), range(3, 4), range(60, 70), range(129, 130)):
        torch.testing.assert_close(draw(run, rows), many[rows.start : rows.stop], rtol=0, atol=1e-5)


def test_the_class_decides(run: Path) -> None:
    one, other = draw(run, range(8), label=0), draw(run, range(8), label=1)
    assert (one - other).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_weights_are_the_average(run: Path) -> None:
    generator = chexdist.load_generator(run)
    weights = dict(generator.named_parameters())
    average, last = (
        load_file(jobs.newest(run) / name) for name in ("ema.safetensors", "generator.safetensors")
    )
    assert weights.keys() == average.keys()
    assert all(torch.equal(weights[name], average[name]) for name in average)
    assert any(not torch.equal(weights[name], last[name]) for name in last)
    assert not generator.training


def test_it_draws_what_training_drew(run: Path, tmp_path: Path) -> None:
    """The sheet of samples that the run wrote last shows the same images."""
    import numpy as np
    from PIL import Image
    from torchvision.utils import save_image

    from chexdist.data.manifest import read_manifest

    config = (run / "config.yaml").read_text()
    directory = next(line.split(": ")[1] for line in config.splitlines() if line.startswith("  shards: "))
    generator = chexdist.load_generator(run)
    images = sample(generator, 8, read_manifest(directory).class_counts("train"), 0, range(64))
    save_image(images, tmp_path / "ours.png", nrow=8, normalize=True, value_range=(-1, 1))
    ours, theirs = (
        np.asarray(Image.open(path)).astype(int)
        for path in (tmp_path / "ours.png", run / "samples/images-96.png")
    )
    assert np.abs(ours - theirs).max() <= 1


def test_a_run_without_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no complete checkpoint"):
            chexdist.load_generator(path)
