"""`chexdist diagnose`: runs of earlier releases from their logs alone, and the picture."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chexdist.__main__ import main

EARLIER = Path(__file__).parents[1] / "earlier_runs"


def test_each_run_has_a_verdict_and_an_ill_one_its_cures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(EARLIER / "dcgan"), str(EARLIER / "wgan-gp")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dcgan: critic at chance, from the start: ")
    assert lines[1].startswith("  1. --penalty.weight auto")
    begun = f"chexdist train --config {EARLIER / 'dcgan' / 'config.yaml'} --data.shards DIR --run.dir NEW"
    assert f"  {begun} --penalty.weight auto" in lines
    assert lines[-3].startswith("wgan-gp: healthy: ")
    assert "chexdist doctor --config RUN/config.yaml" in lines[-1]
    assert main(["diagnose", str(EARLIER / "wgan-gp")]) == 0


def test_the_picture_shows_what_it_is_judged_by(tmp_path: Path) -> None:
    out = tmp_path / "curves.svg"
    assert main(["diagnose", str(EARLIER / "dcgan"), "--out", str(out)]) == 1
    texts = [each.text for each in ElementTree.fromstring(out.read_text()).iter() if each.text]
    assert "dcgan: critic at chance" in texts and "critic at chance 1.386" in texts
    assert {"KID x1000, lower is better", "loss of the critic"} <= {*texts}


def test_what_can_not_be_judged_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err
    run = EARLIER / "dcgan"
    assert main(["diagnose", str(run), "--out", str(tmp_path / "curves.png")]) == 2
    assert ".svg" in capsys.readouterr().err
    shutil.copy(run / "config.yaml", tmp_path)
    assert main(["diagnose", str(tmp_path)]) == 0
    assert (
        "too early: not evaluated yet: the next evaluation comes at 10,000 images" in capsys.readouterr().out
    )


def test_training_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the run has recorded how many there are."""
    run = shutil.copytree(EARLIER / "vanilla", tmp_path / "run")
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    line |= {"name": "health/training_over_held_out", "value": 0.95, "low": None, "high": None}
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"training_images": 640}))
    assert main(["diagnose", str(run)]) == 1
    assert "critic memorises" in (out := capsys.readouterr().out) and "the 640 training images" in out


def test_the_report_says_it_on_top(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(EARLIER / "dcgan"), str(EARLIER / "wgan-gp"), "--out", str(out)]) == 0
    page = out.read_text()
    said = page.index("dcgan is ill: critic at chance, from the start")
    assert said < page.index("<table") and "wgan-gp is ill" not in page
