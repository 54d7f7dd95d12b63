"""A run that is ill: what it leaves, and that it stops where it is to."""

import json
from pathlib import Path

import pytest
from helpers import jobs

from chexdist.__main__ import main
from chexdist.config.load import load_config
from chexdist.data.manifest import read_manifest
from chexdist.run.log import read_log
from chexdist.run.trained import _doubts
from chexdist.run.verdict import VERDICTS

EARLIER = Path(__file__).parents[1] / "earlier_runs"
ILL = (
    "--ema.halflife",
    "1e12",
    "--ema.ramp",
    "0",
    "--eval.every",
    "32",
    "--train.images",
    "320",
    "--checkpoint.every",
    "0",
)


def status(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "status.json").read_text())
    return found


@pytest.mark.parametrize("config", ["dcgan"])
def test_it_stops_after_two_ill_evaluations_with_a_checkpoint(
    config: str, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(jobs.small(shards, run, config, *ILL, "--train.unhealthy", "stop")) == 1
    found = status(run)
    assert (found["state"], found["images"]) == ("failed", 64)
    assert "worse than the mean image" in str(found["cause"]) and "--ema.halflife" in str(found["cause"])
    assert (run / "checkpoints" / "images-64" / "state.json").exists()
    assert found["health"]["verdict"] == "worse than the mean image"  # type: ignore[index]
    lines = [line for line in read_log(run) if line.name == "health/verdict"]
    assert [(line.images, VERDICTS[int(line.value)]) for line in lines][1:] == [
        (32, "worse than the mean image"),
        (64, "worse than the mean image"),
    ]
    err = capfd.readouterr().err
    assert "unusual: ema.halflife" in err and "32 images: worse than the mean image" in err


def test_without_that_it_is_only_said(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(jobs.small(shards, run, "dcgan", *ILL, "--train.images", "96")) == 0
    assert status(run)["state"] == "done" and "verdict" in status(run)["health"]  # type: ignore[operator]
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["training_images"] == len(read_manifest(str(shards)).splits["train"]) > 0
    out = capfd.readouterr().out
    assert "verdict: worse than the mean image" in out and "what usually helps: lower --ema.halflife" in out


def test_the_best_of_an_ill_run_is_not_taken_in_silence() -> None:
    run = EARLIER / "dcgan"
    (said,) = _doubts(run, Path("images-180000"), load_config(str(run / "config.yaml"), []))
    assert "images-180000 is the best" in said and "critic at chance" in said
    run = EARLIER / "wgan-gp"
    assert _doubts(run, Path("images-160000"), load_config(str(run / "config.yaml"), [])) == []
