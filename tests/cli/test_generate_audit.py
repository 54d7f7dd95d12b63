"""The audit of `chexdist generate` on shards: copies of training images are replaced, counted, refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.untrained import files, index, make_run
from torch import Tensor, nn
from torch.nn import functional

from chexdist.__main__ import main
from chexdist.data.loader import to_unit_range
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed import noise
from chexdist.evaluation.copies import Audit
from chexdist.generation.judged import PASSED
from chexdist.generation.judged import REPLACED as NEAR_COPY
from chexdist.generation.produce import Request, generate
from chexdist.run.trained import Loaded, load_run
from chexdist.training.networks import Gan


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional DCGAN."""
    return make_run(tmp_path_factory.mktemp("run"), shards, "dcgan", True, lambda gan: None)


def training_images(shards: Path) -> Tensor:
    manifest = read_manifest(str(shards))
    pixels = SampleReader(manifest, "train", memory_mib=0).read(list(range(72)))
    return to_unit_range(torch.from_numpy(pixels.astype(np.int32)), 8, torch.float32)


class Copier(nn.Module):
    """Every image with a high first latent is a training image, shifted by a pixel and brighter."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.known = known
        self.weight = nn.Parameter(torch.zeros(1))

    @staticmethod
    def copies(latent: Tensor) -> Tensor:
        return latent[:, 0] > 0.5

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        chosen = self.known[(latent[:, 1].abs() * 1000).long() % len(self.known)]
        copied = (torch.roll(chosen, 1, 3) * 1.03 + 0.02).clamp(-1, 1)
        grid = latent[:, 2:66].reshape(-1, 1, 8, 8).sigmoid() * 2 - 1
        fresh = functional.interpolate(grid, (32, 32), mode="bicubic").clamp(-1, 1)
        return torch.where(self.copies(latent)[:, None, None, None], copied, fresh)


@pytest.fixture(scope="module")
def audit(shards: Path) -> Audit:
    return Audit(read_manifest(str(shards)))


def copying(run: Path, shards: Path) -> Loaded:
    loaded = load_run(run)
    model = loaded.config.model.model_copy(update={"latent": 66})
    config = loaded.config.model_copy(update={"model": model})
    return dataclasses.replace(loaded, config=config, generator=Copier(training_images(shards)))


def test_copies_are_replaced_and_counted(run: Path, shards: Path, audit: Audit, tmp_path: Path) -> None:
    loaded = copying(run, shards)
    folders = [tmp_path / str(n) for n in (80, 20)]
    for folder in folders:
        folder.mkdir()
        generate(loaded, Request(int(folder.name), 0, None, "png"), audit, folder)
    rows = index(folders[0])
    latents = torch.from_numpy(noise.normal(0, noise.Draw.SAMPLE_LATENT, 0, range(len(rows)), 66))
    expected = Copier.copies(latents)
    found = torch.tensor([row["audit"] == NEAR_COPY for row in rows])
    assert 20 < int(expected.sum()) and bool((found | ~expected).all()), "a copy has passed"
    assert int((found & ~expected).sum()) <= 5, "fresh pictures are taken for copies"
    passed = [row for row in rows if row["audit"] == PASSED]
    assert [row["file"][:15] for row in passed] == [f"synthetic-{i:05}" for i in range(80)]
    assert [row["file"] for row in rows if row["audit"] == NEAR_COPY] == [""] * int(found.sum())
    said = json.loads((folders[0] / "provenance.json").read_text())["audit"]
    assert (said["drawn"], said["near_copies_replaced"]) == (len(rows), int(found.sum()))
    first = {path.name: path.read_bytes() for path in folders[1].glob("synthetic*")}
    assert len(first) == 20 and first.items() <= files(folders[0]).items()


def test_held_out_images_pass(shards: Path, audit: Audit) -> None:
    """Real images of patients that the run has not seen: two of the 24 at most, where 1 in 97 is stated."""
    manifest = read_manifest(str(shards))
    pixels = SampleReader(manifest, "val", memory_mib=0).read(list(range(24)))
    images = to_unit_range(torch.from_numpy(pixels.astype(np.int32)), 8, torch.float32)
    assert audit.threshold.rate == pytest.approx(1 / 97)
    assert int((audit.likeness(images) > audit.threshold.value).sum()) <= 2
    assert bool((audit.likeness(training_images(shards)) > audit.threshold.value).all())


def test_a_run_that_has_memorised_gives_nothing(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = training_images(shards)[7].flatten().clamp(-0.999, 0.999).atanh()

    def memorise(gan: Gan) -> None:
        last = [layer for layer in gan.ema.modules() if isinstance(layer, nn.Linear)][-1]
        last.weight.zero_()
        last.bias.copy_(known)

    run = make_run(tmp_path / "run", shards, "vanilla", False, memorise)
    assert main(["generate", str(run), "--n", "5", "--out", str(tmp_path / "out")]) == 1
    assert "64 of the first 64 pictures are near-copies" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_that_are_not_finite(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(gan: Gan) -> None:
        next(gan.ema.parameters()).fill_(torch.nan)

    run = make_run(tmp_path / "run", shards, "vanilla", False, spoil)
    assert main(["generate", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "not finite" in capsys.readouterr().err and not (tmp_path / "out").exists()
