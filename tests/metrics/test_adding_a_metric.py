"""A metric or an extractor is a file and a registry line: then it is measured, compared and reported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import jobs
from helpers.html_page import Page

SPREAD = '''
"""How far apart features are."""

from chexdist.metrics.estimate import Estimate

UNIT = "mean standard deviation of features"


def measure(real, generated, real_patients=None, generated_patients=None):
    return Estimate(float(generated.std(0).mean()), None, None, len(real), len(generated), "a toy has none")
'''
DARKER = '''
"""How much darker one image of a pair is."""

UNIT = "difference of means, images in [0, 1]"


def score(a, b):
    assert a.shape[1:] == (1, 256, 256) and 0 <= float(a.min()) <= float(a.max()) <= 1
    return (a - b).mean(dim=(1, 2, 3))
'''
EXTRACTOR = '''
"""Means of squares of an image."""

from torch import nn

FEATURES, INPUT_SIZE = 12, 16


def load():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), "0" * 64
'''
COMMAND = """
import sys
import chexdist.metrics.extractors
from chexdist.metrics import METRICS, MetricSpec

METRICS["spread"] = MetricSpec("toys.spread", "Spread", "features", "higher")
METRICS["darker"] = MetricSpec("toys.darker", "Darker", "pairs", "near real")
chexdist.metrics.extractors.__path__.append(sys.argv.pop(1))
chexdist.metrics.extractors.EXTRACTORS._modules["squares"] = "squares"

from chexdist.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def chexdist(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a command line where the registries have the new lines, and return its standard output."""
    folder = tmp_path_factory.mktemp("added")
    (folder / "toys").mkdir()
    (folder / "toys/spread.py").write_text(SPREAD)
    (folder / "toys/darker.py").write_text(DARKER)
    (folder / "squares.py").write_text(EXTRACTOR)

    def run(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, str(folder), *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def trained(
    chexdist: Callable[..., str],
    build_shards: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An evaluated run that chose its best checkpoint by the new metric, in the new extractor's features."""
    run = tmp_path_factory.mktemp("run") / "toy"
    shards = build_shards(96, 20, split="train=0.5,val=0.5")
    more = ["--eval.extractor", "squares", "--checkpoint.best", "spread", "--checkpoint.keep", "1"]
    chexdist(*jobs.small(shards, run, "vanilla", "--model.conditional", "true", *more))
    out = chexdist("evaluate", run, "--samples", 64, "--pairs", 64)
    assert " spread " in out and " darker " in out and "not computed: spread interval: a toy has none" in out
    return run


def by_name(lines: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(line["name"], []).append(line)
    return found


def test_training_measures_it_and_chooses_by_it(trained: Path) -> None:
    logged = by_name(jobs.metrics(trained))
    assert [line["images"] for line in logged["spread"]] == [0, 96, 192]
    assert {"spread/real", "spread/mean_image", "kid_x1000"} <= set(logged) and "darker" not in logged
    assert logged["spread/mean_image"][0]["value"] == 0 < logged["spread/real"][0]["value"]
    for line in logged["spread"]:
        assert line["unit"] == "mean standard deviation of features" and line["low"] is None
        assert line["floor"] == logged["spread/real"][0]["value"]
        assert line["protocol"] == logged["kid_x1000"][0]["protocol"]
    best = max(logged["spread"][1:], key=lambda line: line["value"])["images"]
    there = {path.name for path in (trained / "checkpoints").iterdir()}
    assert there == {"images-192", f"images-{best}"}


def test_it_is_among_the_numbers_of_an_evaluation(trained: Path) -> None:
    (file,) = trained.glob("evaluations/*/evaluation.json")
    document = json.loads(file.read_text())
    measured = by_name(document["metrics"])
    for suffix in ("", "/real", "/no_finding", "/no_finding/real"):
        for new, old in (("spread", "kid_x1000"), ("darker", "mse_random_pairs_256px")):
            for line, beside in zip(measured[new + suffix], measured[old + suffix], strict=True):
                assert (line["n"], line["protocol"]) == (beside["n"], beside["protocol"])
    (darker,) = measured["darker"]
    assert darker["low"] < darker["value"] < darker["high"] and darker["unit"].startswith(
        "difference of means"
    )
    assert document["protocols"][measured["spread"][0]["protocol"]]["extractor"] == "squares"


def test_the_report_shows_it_by_its_label(
    trained: Path, chexdist: Callable[..., str], tmp_path: Path
) -> None:
    chexdist("report", trained, "--out", tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    columns = {column for table in page.tables for column in table[0]}
    assert {"Spread [95 %]", "Darker [95 %]", "KID × 1000 [95 %]", "KID × 1000, untrained"} <= columns
    assert "Spread: higher is better." in page.text and "Spread over training" in page.text
    assert "Random pairs: PSNR, MSE, SSIM, Darker" in page.text
    assert any(row[0] == "Spread interval" for table in page.tables for row in table)
