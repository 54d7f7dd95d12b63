"""Which weights `chexdist evaluate` takes: an older checkpoint, one without its run, a damaged one."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.evaluated import FEW, OPTIONS, evaluate
from safetensors.torch import load_file, save_file

from chexdist.__main__ import main


def test_an_older_checkpoint_and_moved_shards(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(shards, tmp_path / "moved"))
    text = (run / "config.yaml").read_text().replace(str(shards), str(tmp_path / "gone"))
    (run / "config.yaml").write_text(text)
    assert main(["evaluate", str(run), *OPTIONS]) == 2
    assert "--data.shards DIR" in capsys.readouterr().err
    words = ("--checkpoint", "images-40", "--data.shards", str(moved), *FEW)
    assert evaluate(run, *words, images=40).document["checkpoint"] == "images-40"


@pytest.mark.slow
def test_a_checkpoint_in_its_run_is_that_of_the_run(run: Path) -> None:
    assert main(["evaluate", str(run / "checkpoints/images-40"), *OPTIONS, *FEW]) == 0
    (found,) = run.glob("evaluations/images-40-*/evaluation.json")
    assert json.loads(found.read_text())["checkpoint"] == "images-40"


def test_a_checkpoint_without_its_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is measured: there would be nowhere to record it."""
    alone = shutil.copytree(run / "checkpoints/images-40", tmp_path / "images-40")
    assert main(["evaluate", str(alone), *OPTIONS]) == 2
    err = capsys.readouterr().err
    assert "RUN/checkpoints/ beside the run's config.yaml" in err and len(err.splitlines()) == 1


def test_a_damaged_newest_checkpoint_is_passed_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(run / "checkpoints/images-80")
    assert main(["evaluate", str(run), *OPTIONS, *FEW]) == 0
    assert "images-80 is damaged" in capsys.readouterr().err
    assert len(list(run.glob("evaluations/images-40-val-s64-seed0-*/evaluation.json"))) == 1
    assert main(["evaluate", str(run), *OPTIONS, "--checkpoint", "images-80"]) == 1
    assert "images-80 is damaged" in capsys.readouterr().err


def spoil(path: Path) -> None:
    """Flip a bit of the averaged weights."""
    content = bytearray((path / "ema.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "ema.safetensors").write_bytes(content)


def test_weights_that_are_not_finite(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/images-80"
    tensors = load_file(path / "ema.safetensors")
    save_file(
        {name: torch.full_like(value, torch.nan) for name, value in tensors.items()}, path / "ema.safetensors"
    )
    state = json.loads((path / "state.json").read_text())
    state["files"]["ema.safetensors"] = hashlib.sha256((path / "ema.safetensors").read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    assert main(["evaluate", str(run), *OPTIONS]) == 1
    assert "not finite" in capsys.readouterr().err and not (run / "evaluations").exists()
