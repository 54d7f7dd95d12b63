"""`quality` measures the notebook's GAN on the images that a run has seen, as the run was measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import notebook
from benchmarks.__main__ import main
from chexdist.__main__ import main as chexdist
from chexdist.training.step import Step

BATCH, IMAGES = 8, 96


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(96, 20, split="train=0.75,val=0.25")


def train(shards: Path, run: Path, config: str) -> list[Tensor]:
    """A tiny run; the images that its step was given."""
    settings = {
        "data.shards": shards,
        "data.workers": 0,
        "model.size": 32,
        "model.width": 4,
        "model.latent": 8,
        "train.batch": BATCH,
        "train.images": IMAGES,
        "eval.every": IMAGES // 2,
        "eval.samples": 64,
        "eval.extractor": "random-conv",
        "run.dir": run,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    seen: list[Tensor] = []
    production = Step.__call__

    def recorded(self: Step, t: int, images: Tensor, labels: Tensor) -> None:
        seen.append(images.clone())
        production(self, t, images, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", recorded)
        assert chexdist(["train", "--config", config, *words]) == 0
    return seen


@pytest.mark.parametrize(
    ("config", "loop"),
    [
        ("dcgan", notebook.Dcgan),
        ("residual", notebook.Dcgan),
        ("wgan-gp", notebook.WganGp),
        ("wgan-clip", notebook.WganClip),
        ("vanilla", notebook.Dcgan),
    ],
)
def test_the_notebook_sees_what_the_run_saw(
    config: str,
    loop: type[notebook.Notebook],
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, given = train(shards, tmp_path / "run", config), []
    batch, made = loop.batch, []

    def recorded(self: notebook.Notebook, i: int, real: Tensor) -> None:
        made.append(self)
        given.append(real.clone())
        batch(self, i, real)

    monkeypatch.setattr(loop, "batch", recorded)
    words = [
        "quality",
        "--run",
        str(tmp_path / "run"),
        "--shards",
        str(shards),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    assert {len(images) for images in given} == {16 if config == "residual" else BATCH}
    assert torch.equal(torch.cat(given), torch.cat(seen).expand(-1, 3, -1, -1))
    norms = [layer for layer in made[0].critic.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert bool(norms) == (config not in ("wgan-gp", "vanilla"))
    (file,) = (tmp_path / "out").iterdir()
    document = json.loads(file.read_text())
    log = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    kids = [line for line in log if line["name"] == "kid_x1000"]
    assert [row["name"] for row in document["rows"]] == ["0 images", "48 images", "96 images"]
    for row, ours in zip(document["rows"], kids, strict=True):
        assert row["cells"][0].startswith(f"{ours['value']:,.0f} [")
    assert len(set(document["values"].values())) == 3, "it was trained in between"
    assert document["settings"]["protocol"] == kids[0]["protocol"]
    assert "96 images" in capsys.readouterr().out


def test_unlike_runs_are_refused(
    shards: Path, build_shards: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_shards(96, 40, split="train=0.75,val=0.25")
    train(shards, tmp_path / "run", "dcgan")
    capsys.readouterr()
    for words, expected in (
        ([], "quality needs --run and --shards"),
        (["--run", tmp_path / "none", "--shards", shards], "no metrics.jsonl"),
        (["--run", tmp_path / "run", "--shards", other], "another protocol"),
        (["--run", tmp_path / "run", "--shards", shards, "--images", 16], "not measured up to 16"),
    ):
        assert main(["quality", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1, error
