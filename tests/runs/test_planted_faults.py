"""Trainings with a planted fault are named rightly; the logs were recorded by `helpers/planted.py`."""

import json
from pathlib import Path

import pytest
from helpers.planted import PLANTED, train

from chexdist.metrics.value import Metric
from chexdist.run.verdict import judge

RECORDED = json.loads(Path(__file__).with_name("planted.json").read_text())
SLOW = ("critic-rate-0", "generator-rate-0", "rate-x100")
"""Trained anew by the slow tests."""


def recorded(name: str) -> list[Metric]:
    return [
        Metric(images, images // 16, line, "", value, 1, low, high, None, None, 0.0)
        for images, line, value, low, high in RECORDED[name]["log"]
    ]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_fault_is_named(name: str) -> None:
    found = judge(recorded(name), RECORDED[name]["settings"])
    assert found.name in PLANTED[name][2], str(found)
    assert bool(found.cures) == (found.name != "healthy")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_planted_fault_is_named(name: str, shards: Path, tmp_path: Path) -> None:
    assert train(name, shards, tmp_path / "run")["verdict"] in PLANTED[name][2]
