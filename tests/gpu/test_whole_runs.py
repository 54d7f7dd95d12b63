"""Whole commands on the device: a killed training ends with the same bits; its pictures and its numbers."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from helpers import jobs
from helpers.faults import STEP, Signal

CONFIGURATIONS = [
    ("vanilla", "no"),
    ("wgan-clip", "no"),
    ("wgan-gp", "bf16"),
    ("dcgan", "no"),
    ("residual", "bf16"),
]
SMOOTH = ("kid", "psnr", "mse", "ssim", "ms_ssim")
SAME = 1e-3
"""Relative difference of a metric between devices: images differ in float32's last bits."""


def small(shards: Path, run: Path, config: str, *more: str) -> list[str]:
    """Half of `jobs.small`: 6 batches, 3 checkpoints, measured once at each end."""
    short = ["--train.images", str(6 * jobs.BATCH), "--checkpoint.every", str(2 * jobs.BATCH)]
    return jobs.small(shards, run, config, *short, "--eval.every", "0", *more)


@pytest.mark.parametrize("config, precision", CONFIGURATIONS)
def test_killed_and_resumed(config: str, precision: str, device: str, shards: Path, tmp_path: Path) -> None:
    if device == "cpu" and config != "wgan-gp":
        pytest.skip("the dry run has one configuration; runs/test_kills.py has them on the CPU")
    more = ["--train.precision", precision, "--penalty.every", "16"]
    undisturbed = jobs.run(small(shards, tmp_path / "whole", config, *more), tmp_path / "log-1")
    words = small(shards, tmp_path / "run", config, *more)
    jobs.killed(words, tmp_path / "log-2", 1, Signal(STEP, 6))
    resumed = jobs.run(words, tmp_path / "log-2")
    assert "resuming from images-" in resumed.output
    assert ("cuda:0" in undisturbed.output) == (device == "cuda")
    assert "deterministic" not in undisturbed.output  # torch's warning of an operation that is not
    jobs.same_result(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("size", [2], indirect=True)
def test_ranks_killed_and_resumed(size: int, shards: Path, tmp_path: Path) -> None:
    jobs.run(small(shards, tmp_path / "whole", "wgan-gp"), tmp_path / "log-1", size)
    words = small(shards, tmp_path / "run", "wgan-gp")
    jobs.killed(words, tmp_path / "log-2", size, Signal(STEP, 6, rank=size - 1))
    resumed = jobs.run(words, tmp_path / "log-2", size)
    assert "resuming from images-" in resumed.output
    jobs.same_result(tmp_path / "run", tmp_path / "whole")


def _numbers(run: Path) -> dict[str, float]:
    """Smooth ones of the newest evaluation: others count neighbours or classifications, which tip over."""
    file = max((run / "evaluations").glob("*/evaluation.json"), key=lambda path: path.stat().st_mtime_ns)
    found: list[dict[str, Any]] = json.loads(file.read_text())["metrics"]
    return {line["name"]: line["value"] for line in found if line["name"].startswith(SMOOTH)}


def test_evaluated_and_generated(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers again to the last bit, on the CPU nearly so; the pictures are the same."""
    run = tmp_path / "run"
    jobs.run(small(shards, run, "dcgan"), tmp_path / "log")
    evaluate = ["evaluate", str(run), "--samples", "64", "--pairs", "16"]
    found = []
    for _ in range(2):
        jobs.run(evaluate, tmp_path / "log")
        found.append(_numbers(run))
    assert found[0] == found[1] and "kid_x1000" in found[0]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    jobs.run(evaluate, tmp_path / "log")
    for name, value in _numbers(run).items():
        assert math.isclose(value, found[0][name], rel_tol=SAME, abs_tol=SAME), name
    pictures = []
    for name in ("first", "second"):
        jobs.run(["generate", str(run), "--n", "8", "--out", str(tmp_path / name)], tmp_path / "log")
        files = sorted(path for path in (tmp_path / name).rglob("*.png"))
        pictures.append([path.read_bytes() for path in files])
    assert pictures[0] == pictures[1] and len(pictures[0]) >= 8
