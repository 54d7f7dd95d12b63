"""`chexdist.load_generator`: the same run, seed and number give the same picture, whatever else is drawn."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import jobs
from safetensors.torch import load_file
from torch import Tensor

import chexdist
from chexdist.data.manifest import read_manifest
from chexdist.errors import UserError, WorkError
from chexdist.run.sampling import sample
from chexdist.run.trained import load_run

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
    """To the last bit, whatever part of a chunk is asked for."""
    many = draw(run, range(130))  # more than are generated at once
    for rows in (range(1), range(3, 4), range(60, 70), range(129, 130), range(64, 130)):
        assert torch.equal(draw(run, rows), many[rows.start : rows.stop])


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


def test_what_is_known_of_a_run(run: Path) -> None:
    loaded = load_run(run)
    assert list(loaded.classes) == ["no_finding", "finding"] and sum(loaded.class_counts) == 72
    assert (loaded.images, loaded.passed_over) == (96, ())
    content = (jobs.newest(run) / "ema.safetensors").read_bytes()
    assert loaded.weights == hashlib.sha256(content).hexdigest()
    assert loaded.manifest == read_manifest(loaded.config.data.shards).digest
    assert torch.equal(loaded.sample(0, range(4), 1), draw(run, range(4), 0, 1))


def test_a_checkpoint_can_be_chosen(run: Path) -> None:
    earlier = load_run(run, "images-48")
    assert earlier.images == 48
    latents, labels = torch.randn(3, 8), torch.zeros(3, dtype=torch.int64)
    chosen, newest = (chexdist.load_generator(run, name)(latents, labels) for name in ("images-48", None))
    assert torch.equal(chosen, earlier.generator(latents, labels)) and not torch.equal(chosen, newest)


@pytest.mark.parametrize("name", ["images-7", "../images-48", "images-48/", "48", "images-4\u0668"])
def test_a_checkpoint_that_is_not_there(run: Path, name: str) -> None:
    with pytest.raises(UserError, match="there are: images-48, images-96"):
        load_run(run, name)


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copied")
    return tmp_path / "copied"


def test_a_damaged_checkpoint_is_passed_over_and_reported(copied: Path) -> None:
    (copied / "checkpoints/images-96/ema.safetensors").write_bytes(b"nothing")
    loaded = load_run(copied)
    assert loaded.images == 48 and "images-96 is damaged" in loaded.passed_over[0]
    with pytest.raises(WorkError, match="images-96 is damaged"):
        load_run(copied, "images-96")


def test_weights_of_another_network(copied: Path) -> None:
    path = copied / "config.yaml"
    path.write_text(path.read_text().replace("width: 4", "width: 8"))
    with pytest.raises(UserError, match="other networks than .*config.yaml describes"):
        load_run(copied)


@pytest.mark.parametrize(
    "classes", [[], {}, 5, {"finding": "many"}, {"find\ning": 3}, {"finding": 0}, {"a": -1}]
)
def test_a_checkpoint_without_classes(copied: Path, classes: object) -> None:
    path = copied / "checkpoints/images-96/state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": classes}))
    with pytest.raises(WorkError, match="names no classes"):
        load_run(copied)


def test_a_run_without_configuration(copied: Path) -> None:
    (copied / "config.yaml").unlink()
    with pytest.raises(UserError, match="no config.yaml"):
        load_run(copied)


def test_a_run_without_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "no complete checkpoint"), (tmp_path / "nowhere", "no such run directory")):
        with pytest.raises(UserError, match=said):
            chexdist.load_generator(path)
