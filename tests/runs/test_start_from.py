"""`train.start`: a run that begins with another run's networks, and what is refused of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import STEP, Signal

from chexdist.__main__ import main

QUICK = ["--train.images", "32", "--eval.every", "0", "--checkpoint.every", "16", "--ema.halflife", "1e30"]
"""Two batches, whose average stays where it began."""


@pytest.fixture
def begun(undisturbed: Callable[..., Path]) -> Path:
    return undisturbed("vanilla", 1)


def command(shards: Path, run: Path, start: Path, *more: str) -> list[str]:
    return jobs.small(shards, run, "vanilla", *QUICK, "--train.start", str(start), *more)


def provenance(run: Path) -> dict[str, dict[str, str]]:
    return dict(json.loads((run / "provenance.json").read_text()))


@pytest.mark.parametrize("size", [1, 2])
def test_it_begins_with_the_other_runs_networks(
    size: int, begun: Path, other_shards: Path, tmp_path: Path
) -> None:
    """On other shards. With learning rates of nearly 0, both networks and the average stay what they were;
    Adam's counts begin anew."""
    rates = ["--optim.generator.lr", "1e-30", "--optim.critic.lr", "1e-30", "--train.seed", "5"]
    run, start = tmp_path / "run", begun / "checkpoints/images-144"
    job = jobs.run(command(other_shards, run, start, *rates), tmp_path / "log", size)
    assert f"beginning with the networks of {start}" in job.output
    before, after = jobs.tensors(start), jobs.tensors(jobs.newest(run))
    for network in ("generator", "critic", "ema"):
        assert after[f"{network}.safetensors"] == before[f"{network}.safetensors"], network
        if network != "ema":
            assert after[f"{network}_optimizer.safetensors"] != before[f"{network}_optimizer.safetensors"]
    found = provenance(run)["started_from"]
    state = json.loads((start / "state.json").read_text())
    assert found == {"checkpoint": str(start), "images": "144", "manifest": state["manifest"]}
    assert found["manifest"] != provenance(run)["manifest"]


def test_of_a_run_it_takes_the_newest_and_resumes_without_it(
    begun: Path, shards: Path, tmp_path: Path
) -> None:
    """Where the other run is gone by then, what it was is still recorded, and the bits are the same."""
    other, run = tmp_path / "other", tmp_path / "run"
    shutil.copytree(begun, other)
    more = ("--train.images", "64", "--checkpoint.keep", "4")
    whole = jobs.run(command(shards, tmp_path / "whole", other, *more), tmp_path / "log")
    assert f"the networks of {other}/checkpoints/images-192" in whole.output
    jobs.start(command(shards, run, other, *more), tmp_path / "killed", 1, Signal(STEP, 4)).wait()
    shutil.rmtree(other)
    job = jobs.run(command(shards, run, other, *more), tmp_path / "resumed")
    assert "resuming from images-" in job.output and "beginning" not in job.output
    jobs.same_result(run, tmp_path / "whole")
    assert provenance(run)["started_from"] == provenance(tmp_path / "whole")["started_from"]
    assert provenance(run)["started_from"]["checkpoint"] == f"{other}/checkpoints/images-192"


def test_without_it_nothing_is_recorded(begun: Path) -> None:
    assert "started_from" not in provenance(begun)


@pytest.mark.parametrize("nowhere", ["", "checkpoints/images-7", "samples"])
def test_no_checkpoint_is_refused_before_anything_starts(
    nowhere: str, begun: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = begun / nowhere if nowhere else tmp_path
    assert main(command(shards, tmp_path / "run", path, "--dry-run")) == 2
    line = capsys.readouterr().err
    assert f"train.start {path}: is no checkpoint and no run directory" in line and line.count("\n") == 1


@pytest.mark.parametrize("size", [1, 2])
def test_other_networks_are_refused_with_the_reason(
    size: int, begun: Path, shards: Path, tmp_path: Path
) -> None:
    job = jobs.start(command(shards, tmp_path / "run", begun, "--model.width", "8"), tmp_path / "log", size)
    assert job.wait() == [2] * size, job.output
    lines = [line for line in job.output.splitlines() if "train.start" in line]
    assert len(lines) == 1 and "Traceback" not in job.output
    assert "there," in lines[0] and "here" in lines[0] and "model.width was 4, is 8" in lines[0]


def test_another_family_is_refused(begun: Path, shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "wgan-clip", *QUICK, "--train.start", str(begun))
    job = jobs.start(words, tmp_path / "log")
    assert job.wait() == [2], job.output
    assert "model.name was vanilla, is wgan" in job.output


def test_a_damaged_one_is_refused(begun: Path, shards: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(begun / "checkpoints/images-192", damaged)
    (damaged / "ema.safetensors").write_bytes(b"nothing")
    job = jobs.start(command(shards, tmp_path / "run", damaged), tmp_path / "log")
    assert job.wait() == [1], job.output
    assert "is damaged: ema.safetensors" in job.output and "Traceback" not in job.output
