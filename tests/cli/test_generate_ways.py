"""`chexdist generate` between two seeds, as a grid, truncated, in 16 bits; the history of a run as a GIF."""

import io
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pydicom
import pytest
import torch
from helpers.untrained import files, index, make_run
from PIL import Image, ImageSequence
from torch import Tensor

from chexdist.__main__ import main
from chexdist.errors import WorkError
from chexdist.evaluation.copies import Audit
from chexdist.generation.history import history
from chexdist.generation.interpolation import Way, interpolate
from chexdist.generation.produce import Request, grid
from chexdist.run.directory import draw_grid
from chexdist.run.sampling import between, sampled_labels, sampled_latents
from chexdist.run.trained import load
from shards.pixels.render import render_file


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional DCGAN, with the pictures of samples that training draws: 64, and at the end 16."""
    folder = make_run(tmp_path_factory.mktemp("run"), shards, "dcgan", True, lambda gan: None)
    (folder / "samples").mkdir()
    loaded = load(folder)
    for images, n in ((0, 64), (64, 64), (128, 16)):
        draw_grid(folder / f"samples/images-{images}.png", loaded.sample(images, range(n)))
    return folder


def generate(run: Path, out: Path, *more: str) -> Path:
    assert main(["generate", str(run), "--out", str(out), *more]) == 0
    return out


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def copies(*numbers: int) -> Audit:
    """An audit that takes images of these numbers, in the order in which it sees them, for near-copies."""
    seen = iter(range(10**6))

    def likeness(images: Tensor) -> Tensor:
        return torch.tensor([float(next(seen) in numbers) for _ in images])

    threshold = SimpleNamespace(value=0.5, rate=0.01, images=96)
    return cast(Audit, SimpleNamespace(likeness=likeness, threshold=threshold, references=[0] * 72))


def test_the_way_between_latents() -> None:
    """Along a great circle: ends exact, equal angles, and no shorter than both ends are."""
    start, end = (sampled_latents(seed, range(1), 64)[0] for seed in (3, 7))
    way = between(start, end, 9)
    assert way.shape == (9, 64) and torch.allclose(way[0], start, atol=0, rtol=1e-14)
    assert torch.allclose(way[-1], end, atol=0, rtol=1e-14)
    unit = between(start / start.norm(), end / end.norm(), 9)
    assert torch.allclose(unit.norm(dim=1), torch.ones(9, dtype=torch.float64))
    angles = (unit[1:] * unit[:-1]).sum(1).acos()
    assert torch.allclose(angles, angles[0].expand(8))
    assert way.norm(dim=1).min() > 0.95 * min(start.norm(), end.norm())
    one = between(torch.tensor([2.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64), 4)
    assert one[:, 0].tolist() == pytest.approx([2, 1, 0, -1])


def test_between_two_seeds(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ends are the first pictures of the seeds, of the class of the first; all are audited and marked."""
    out = generate(run, tmp_path / "way", "--interpolate", "3", "7", "--steps", "6")
    assert "6 synthetic X-rays" in capsys.readouterr().out
    rows = index(out)
    assert [(row["seed"], row["index"], row["audit"]) for row in rows] == [
        ("3-7", str(step), "passed") for step in range(6)
    ]
    (label,) = {row["label"] for row in rows}
    steps = [pixels(out / row["file"]) for row in rows]
    for seed, step in ((3, steps[0]), (7, steps[-1])):
        alone = generate(run, tmp_path / str(seed), "--n", "1", "--seed", str(seed), "--label", label)
        assert np.array_equal(pixels(alone / index(alone)[0]["file"]), step)
    assert index(generate(run, tmp_path / "first", "--n", "1", "--seed", "3"))[0]["label"] == label
    whole = np.abs(steps[0] - steps[-1]).mean()
    assert all(0 < np.abs(a - b).mean() < whole for a, b in itertools.pairwise(steps))
    said = json.loads((out / "provenance.json").read_text())
    assert (said["seeds"], said["steps"], said["audit"]["near_copies_left_out"]) == ([3, 7], 6, 0)
    with Image.open(out / rows[2]["file"]) as image:
        assert image.text["seed"] == "3-7" and "Synthetic" in image.text["Title"]
    other = "finding" if label == "no_finding" else "no_finding"
    chosen = generate(run, tmp_path / "other", "--interpolate", "3", "7", "--label", other)
    assert {row["label"] for row in index(chosen)} == {other} and len(index(chosen)) == 8


def test_a_near_copy_on_the_way_is_left_out(run: Path, tmp_path: Path) -> None:
    """Nothing can replace it: its tile is empty, its row says so, and the others have their own numbers."""
    way = Way((3, 7), 5, None, "png")
    for name, audit in (("all", None), ("some", copies(1, 3))):
        (tmp_path / name).mkdir()
        interpolate(load(run), way, audit, tmp_path / name)
    rows = index(tmp_path / "some")
    assert [row["audit"] for row in rows] == ["passed", "near-copy, left out"] * 2 + ["passed"]
    assert [bool(row["file"]) for row in rows] == [True, False, True, False, True]
    assert len(list((tmp_path / "some").glob("synthetic-*"))) == 3
    assert rows[4]["file"] == index(tmp_path / "all")[4]["file"]
    sheets = [pixels(tmp_path / name / "sheet.png") for name in ("all", "some")]
    changed = (sheets[0] != sheets[1]).any(axis=0).nonzero()[0]
    tile, gap, margin = 128, 4, 24
    assert {(column - margin) // (tile + gap) for column in changed.tolist()} == {1, 3}
    with pytest.raises(WorkError, match="3 of the first 5 pictures are near-copies"):
        interpolate(load(run), way, copies(0, 1, 2), tmp_path)


def test_truncation(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures of latents times psi, which the files say; 1 is none, to the byte."""
    plain = files(generate(run, tmp_path / "plain", "--no-audit", "--n", "6"))
    assert files(generate(run, tmp_path / "one", "--no-audit", "--n", "6", "--truncation", "1")) == plain
    out = generate(run, tmp_path / "half", "--no-audit", "--n", "6", "--truncation", "0.5")
    loaded = load(run)
    latents = (0.5 * sampled_latents(0, range(64), 8)).float()
    expected = loaded.generator(latents, sampled_labels(0, range(64), loaded.class_counts)).detach()[:6]
    found = np.stack([pixels(out / row["file"]) for row in index(out)])
    assert np.abs(found - ((expected[:, 0].numpy() + 1) * 127.5)).max() < 0.6
    with Image.open(out / index(out)[0]["file"]) as image:
        assert image.text["truncation"] == "0.5"
    assert json.loads((out / "provenance.json").read_text())["truncation"] == 0.5
    dicom = generate(
        run, tmp_path / "dicom", "--no-audit", "--n", "1", "--truncation", "0.5", "--format", "dicom"
    )
    assert "truncation 0.5" in pydicom.dcmread(dicom / index(dicom)[0]["file"]).ImageComments
    assert b"truncation" not in b"".join(plain[name] for name in plain if name.startswith("synthetic"))


def test_grid(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file of the pictures that a folder would hold, row by row, pixel by pixel, marked as synthetic."""
    folder = generate(run, tmp_path / "folder", "--n", "6", "--seed", "5")
    out = generate(run, tmp_path / "new/grid.png", "--grid", "2x3", "--seed", "5")
    assert "2 x 3 synthetic X-rays" in capsys.readouterr().out
    whole = pixels(out)
    assert whole.shape == (2 * 33 - 1, 3 * 33 - 1)
    for number, row in enumerate(index(folder)):
        top, left = 33 * (number // 3), 33 * (number % 3)
        assert np.array_equal(whole[top : top + 32, left : left + 32], pixels(folder / row["file"]))
    with Image.open(out) as image:
        assert image.text["indices"] == "0 1 2 3 4 5" and "Synthetic" in image.text["Title"]
        assert json.loads(image.text["audit"])["near_copies_replaced"] == 0
    deep = pixels(
        generate(run, tmp_path / "deep.png", "--grid", "2x3", "--seed", "5", "--bits", "16", "--no-audit")
    )
    assert deep.max() > 255 and np.abs(deep / 257 - whole).max() <= 0.51
    request = Request(4, 5, None, "png")
    content, made = grid(load(run), request, 2, copies(1, 4))
    assert (made.drawn, made.near_copies) == (6, 2) and b"0 2 3 5" in content


def test_16_bits(run: Path, tmp_path: Path) -> None:
    """The same pictures, finer; in DICOM too."""
    eight, sixteen = (
        generate(run, tmp_path / bits, "--no-audit", "--n", "3", "--bits", bits) for bits in ("8", "16")
    )
    dicom = generate(run, tmp_path / "dicom", "--no-audit", "--n", "3", "--bits", "16", "--format", "dicom")
    for coarse, fine, data in zip(index(eight), index(sixteen), index(dicom), strict=True):
        with Image.open(sixteen / fine["file"]) as image:
            assert image.mode == "I;16" and "Synthetic" in image.text["Title"]
        values = pixels(sixteen / fine["file"])
        assert np.abs(values / 257 - pixels(eight / coarse["file"])).max() <= 0.51
        assert len(np.unique(values)) > 256
        ds = pydicom.dcmread(dicom / data["file"])
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds["PixelData"].VR) == (16, 16, 15, "OW")
        assert (ds.WindowCenter, ds.WindowWidth) == (32768, 65536) and ds.SyntheticData == "YES"
        assert np.array_equal(ds.pixel_array, values)
        assert np.abs(render_file(str(dicom / data["file"]))[0] * 65535 - values).max() < 0.1


def test_history(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A frame for each picture of samples, in order, with the pictures themselves in it."""
    assert main(["generate", str(run), "--history", str(tmp_path / "audited.gif")]) == 0
    assert "near-copies of 72 training images, and were left out" in capsys.readouterr().out
    words = ["generate", str(run), "--no-audit", "--history", str(tmp_path / "new/learning.gif")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "3 frames" in out and "audit: none" in out
    loaded = load(run)
    with Image.open(tmp_path / "new/learning.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        assert b"Synthetic" in gif.info["comment"] and b"seed 0" in gif.info["comment"]
        for frame, (images, n) in enumerate(((0, 32), (64, 32), (128, 16))):
            gif.seek(frame)
            shown = np.asarray(gif.convert("L")).astype(int)
            for number, picture in enumerate(loaded.sample(images, range(n))[:, 0].numpy()):
                top, left = 4 + 36 * (number // 8), 4 + 36 * (number % 8)
                assert np.abs(shown[top : top + 32, left : left + 32] - (picture + 1) * 127.5).max() < 1.6
        assert gif.info["duration"] > 1000


def test_near_copies_are_left_out_of_the_history(run: Path) -> None:
    """Of the frame in which they are: picture 2 of the first, picture 1 of the second."""
    shown = []
    for audit in (None, copies(2, 33)):
        content, frames, made = history(load(run), audit)
        assert (frames, made.drawn, made.near_copies) == (3, 80, 2 if audit else 0)
        with Image.open(io.BytesIO(content)) as gif:
            shown.append([np.asarray(each.convert("L")).astype(int) for each in ImageSequence.Iterator(gif)])
    for frame, number in ((0, 2), (1, 1)):
        changed = np.argwhere(np.abs(shown[0][frame] - shown[1][frame]) > 2)
        assert {tuple((corner - 4) // 36) for corner in changed} == {(0, number)}
    assert np.abs(shown[0][2] - shown[1][2]).max() <= 2
    with pytest.raises(WorkError, match="41 of the first 80 pictures of samples"):
        history(load(run), copies(*range(41)))


def test_a_damaged_picture_of_samples(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    path = copied / "samples/images-64.png"
    for damage in (lambda: path.write_bytes(b"none"), lambda: Image.new("L", (99, 99)).save(path)):
        damage()
        assert main(["generate", str(copied), "--no-audit", "--history", str(tmp_path / "a.gif")]) == 1
        assert "images-64.png" in capsys.readouterr().err and not (tmp_path / "a.gif").exists()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "nothing to write": ([], "--out must be given"),
    "steps of nothing": (["--steps", "4", "--out", "{tmp}/o"], "--interpolate A B"),
    "n between": (["--interpolate", "1", "2", "--n", "4", "--out", "{tmp}/o"], "leave it out"),
    "seed between": (["--interpolate", "1", "2", "--seed", "4", "--out", "{tmp}/o"], "leave it out"),
    "one seed": (["--interpolate", "2", "2", "--out", "{tmp}/o"], "two seeds"),
    "negative": (["--interpolate", "-1", "2", "--out", "{tmp}/o"], "--interpolate -1"),
    "one step": (["--interpolate", "1", "2", "--steps", "1", "--out", "{tmp}/o"], "from 2 to 64"),
    "steps": (["--interpolate", "1", "2", "--steps", "65", "--out", "{tmp}/o"], "from 2 to 64"),
    "two ways": (["--interpolate", "1", "2", "--grid", "2x2", "--out", "{tmp}/o"], "one of the two"),
    "no truncation": (["--truncation", "0", "--out", "{tmp}/o"], "above 0"),
    "stretched": (["--truncation", "1.1", "--out", "{tmp}/o"], "up to 1"),
    "not a number": (["--truncation", "nan", "--out", "{tmp}/o"], "above 0"),
    "shape": (["--grid", "4*8", "--out", "{tmp}/o.png"], "ROWSxCOLS"),
    "empty shape": (["--grid", "0x8", "--out", "{tmp}/o.png"], "ROWSxCOLS"),
    "large": (["--grid", "33x32", "--out", "{tmp}/o.png"], "1024 pictures at most"),
    "grid in a folder": (["--grid", "2x2", "--out", "{tmp}/o"], "ends in .png"),
    "grid is there": (["--grid", "2x2", "--out", "{tmp}/there.png"], "a file to make"),
    "dicom grid": (["--grid", "2x2", "--format", "dicom", "--out", "{tmp}/o.png"], "leave it out"),
    "bits": (["--bits", "12", "--out", "{tmp}/o"], "--bits"),
    "history's end": (["--history", "{tmp}/o.mp4"], "ends in .gif"),
    "history of a class": (["--history", "{tmp}/o.gif", "--label", "finding"], "leave it out"),
    "history of a checkpoint": (["--history", "{tmp}/o.gif", "--checkpoint", "best"], "leave it out"),
    "history and out": (["--history", "{tmp}/o.gif", "--out", "{tmp}/o"], "leave it out"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.png").write_text("mine")
    words, said = MISTAKES[name]
    assert main(["generate", str(run), *(word.format(tmp=tmp_path) for word in words)]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_a_history_needs_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = shutil.copytree(run / "checkpoints/images-128", tmp_path / "elsewhere")
    young = shutil.copytree(run, tmp_path / "young", ignore=shutil.ignore_patterns("samples"))
    for source, said in ((alone, "whole run directory"), (young, "no pictures of samples")):
        assert main(["generate", str(source), "--no-audit", "--history", str(tmp_path / "a.gif")]) == 2
        assert said in capsys.readouterr().err
