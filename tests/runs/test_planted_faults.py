"""Trainings with a planted fault are named rightly, and shipped ones raise no alarm.

The logs were recorded by `helpers/planted.py`: NAME@LABEL is CASES[NAME], or the shipped configuration NAME
at 64 px, with the data and seed of the label."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.planted import CASES, train

from chexdist.metrics.value import Metric
from chexdist.run.verdict import HEALTHY, TOO_EARLY, judge

RECORDED = json.loads(Path(__file__).with_name("planted.json").read_text())
SHIPPED = json.loads(Path(__file__).with_name("shipped.json").read_text())
SLOW = ("dcgan-critic-rate-0", "dcgan-generator-rate-0", "dcgan-rate-x100", "dcgan-class-collapsed")
"""Trained anew by the slow tests."""


def metrics(recorded: dict[str, Any]) -> list[Metric]:
    return [
        Metric(images, images // 16, line, "", value, 1, low, high, None, None, 0.0)
        for images, line, value, low, high in recorded["log"]
    ]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_fault_is_named(name: str) -> None:
    found = judge(metrics(RECORDED[name]), RECORDED[name]["settings"])
    assert found.name in CASES[name.partition("@")[0]].verdicts, str(found)
    assert bool(found.cures) == (found.name != HEALTHY)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_configuration_raises_no_alarm(name: str) -> None:
    """Nor did it at any evaluation on the way."""
    log = metrics(SHIPPED[name])
    evaluated = sorted({each.images for each in log if each.name == "kid_x1000"})
    assert len(evaluated) > 1
    for images in evaluated:
        found = judge([each for each in log if each.images <= images], SHIPPED[name]["settings"])
        assert found.name in (HEALTHY, TOO_EARLY), f"{images} images: {found}"


def test_a_wasserstein_critic_that_always_wins_is_no_fault_by_itself() -> None:
    """While the generator improves, or is below the mean image."""
    settings = {"loss.name": "wasserstein", "train.images": "200000"}

    def verdict(kid: float, over_best: float) -> str:
        lines = [(0, "kid_x1000/mean_image", 1000.0, None)]
        lines += [(images, "kid_x1000", kid, 10.0) for images in (4000, 8000)]
        lines += [(images, "health/wins", 1.0, None) for images in range(4000, 8001, 500)]
        lines += [(images, "loss/critic", -3.0, None) for images in range(4000, 8001, 500)]
        lines += [(images, "health/score_real_std", 1.0, None) for images in range(4000, 8001, 500)]
        lines += [(images, "health/kid_over_best", over_best, 1.0) for images in (4000, 8000)]
        log = [
            Metric(
                images, 1, name, "", value, 1, half and value - half, half and value + half, None, None, 0.0
            )
            for images, name, value, half in lines
        ]
        return judge(log, settings).name

    assert verdict(1100.0, 0.0) == "critic wins"
    assert verdict(1100.0, -50.0) == TOO_EARLY
    assert verdict(900.0, 0.0) == HEALTHY


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_planted_fault_is_named(name: str, shards: Path, tmp_path: Path) -> None:
    assert train(name, shards, tmp_path / "run")["verdict"] in CASES[name].verdicts
