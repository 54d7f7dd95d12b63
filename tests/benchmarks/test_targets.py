"""`python -m benchmarks targets`: each target beside the newest result that is kept, and what is reached."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import targets
from benchmarks.__main__ import ALL, BENCHMARKS, RESULTS, main, parser
from benchmarks.targets import Target

ABOUT = {"date": "2026-11-28T00:00:00+00:00", "commit": "abc"}


def step(ratio: float, precision: str = "float32") -> dict[str, Any]:
    row = {"name": "dcgan as shipped / notebook RGB", "ratio": ratio, "low": 1.0, "high": 3.0}
    return {"benchmark": "step", **ABOUT, "settings": {"precision": precision}, "rows": [row]}


def profile(of_convolutions: float) -> dict[str, Any]:
    """A step of 2,000 ms."""
    operators = {
        "aten::convolution_backward": {"seconds": 2 * of_convolutions, "calls": 1},
        "aten::add": {"seconds": 2 * (1 - of_convolutions), "calls": 1},
    }
    return {
        "benchmark": "profile",
        **ABOUT,
        "settings": {},
        "phases": {"dcgan": []},
        "operators": {"dcgan": operators},
        "host": {"dcgan": {"least": 0.0001, "most": 0.0006}},
        "rows": [{"name": "a batch", "cells": ["2,000"]}],
    }


TRAINING = Target("step", "dcgan as shipped / notebook RGB", 1.3, native=2.0)


@pytest.mark.parametrize(
    ("ratio", "precision", "convolutions", "bound", "reached"),
    [
        (1.3, "float32", 0.1, "at least 1.3", "yes"),
        (1.29, "float32", 0.1, "at least 1.3", "missed"),
        (1.29, "float32", 0.79, "at least 1.3", "missed"),
        (1.29, "float32", 0.8, "at least 1.3", "at the limit: convolutions 80%"),
        (1.9, "bf16 (notebook float32)", 0.1, "at least 2", "missed"),
        (2.1, "bf16 (notebook float32)", 0.1, "at least 2", "yes"),
    ],
)
def test_what_is_reached(ratio: float, precision: str, convolutions: float, bound: str, reached: str) -> None:
    cells = TRAINING.cells(step(ratio, precision), profile(convolutions))
    assert cells == [bound, f"{ratio:.2f}", "1.00 to 3.00", reached, "2026-11-28, abc"]


def test_time_of_the_host_is_to_be_short() -> None:
    """And the greater of its two bounds is what counts."""
    (at_most,) = (each for each in targets.TARGETS if (each.benchmark, each.row) == ("profile", "dcgan"))
    cells = at_most.cells(profile(0.5), None)
    assert cells[:4] == ["at most 0.5", "0.60", "0.10 to 0.60", "missed"]


def test_what_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--out", str(tmp_path)]) == 2
    assert "has no result of step: python -m benchmarks step" in capsys.readouterr().err
    for file in RESULTS.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    newest = max(tmp_path.glob("step-*.json"))
    document = json.loads(newest.read_text())
    document["rows"] = document["rows"][1:]
    newest.write_text(json.dumps(document))
    assert main(["targets", "--out", str(tmp_path)]) == 2
    assert "has no row dcgan as shipped / notebook RGB: measure it again" in capsys.readouterr().err


def test_all_is_what_has_a_target() -> None:
    assert {target.benchmark for target in targets.TARGETS} | {"targets"} == set(ALL) <= set(BENCHMARKS)
    assert "all: step stream" in " ".join(parser().format_help().split())


def test_those_that_are_shown_are_of_the_newest_results() -> None:
    shown = json.loads(max(RESULTS.glob("targets-*.json")).read_text())
    assert shown["rows"] == targets.newest(RESULTS).document({})["rows"]
