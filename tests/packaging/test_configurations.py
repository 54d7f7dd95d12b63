"""The configurations for larger images start; the 64 px ones are trained by many other tests."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(("name", "size"), [("dcgan-128", 128), ("dcgan-256", 256)])
def test_two_batches_at_a_tiny_width(
    name: str, size: int, build_shards: Callable[..., Path], tmp_path: Path
) -> None:
    """The penalty's first batch is among them: it comes when a multiple of its interval is passed."""
    shards = build_shards(24, 20, size=size, split="train=0.5,val=0.5")
    settings = {
        "data.shards": shards,
        "data.workers": 0,
        "model.width": 2,
        "train.images": 32,
        "train.batch": 16,
        "train.group": 2,
        "penalty.every": 32,
        "eval.samples": 64,
        "eval.extractor": "random-conv",
        "run.dir": tmp_path / "run",
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "chexdist", "train", "--config", name, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (penalty,) = [line["value"] for line in lines if line["name"] == "loss/penalty"]
    assert penalty > 0
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"
