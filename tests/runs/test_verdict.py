"""The verdict on a training, from logs that real trainings left."""

import dataclasses
from pathlib import Path

import pytest

from chexdist.metrics.value import Metric
from chexdist.report.files import read_metrics, read_settings
from chexdist.run.cures import cures
from chexdist.run.verdict import VERDICTS, Verdict, judge

EARLIER = Path(__file__).parents[1] / "earlier_runs"


def earlier(name: str) -> tuple[list[Metric], dict[str, str]]:
    settings = read_settings(EARLIER / name / "config.yaml")
    assert settings is not None
    return read_metrics(EARLIER / name), settings


def verdict(name: str, change: object = None) -> Verdict:
    log, settings = earlier(name)
    return judge(log, settings)


@pytest.mark.parametrize("name", ["vanilla", "wgan-clip", "wgan-gp"])
def test_earlier_runs_that_learned_raise_no_alarm(name: str) -> None:
    assert verdict(name).name == "healthy"


def test_the_earlier_dcgan_was_at_chance_from_the_start() -> None:
    found = verdict("dcgan")
    assert found.name == "critic at chance" and "from the start" in str(found)
    assert "knows nothing 1.386" in found.numbers and "20 times the rule" in found.cures[0]


def changed(log: list[Metric], name: str, factor: float, after: int) -> list[Metric]:
    """The log with the values of one name, and their intervals, multiplied after so many images."""

    def change(metric: Metric) -> Metric:
        if metric.name != name or metric.images < after:
            return metric
        scaled = {
            key: value * factor
            for key in ("value", "low", "high")
            if (value := getattr(metric, key)) is not None
        }
        return dataclasses.replace(metric, **scaled)

    return [change(metric) for metric in log]


@pytest.mark.parametrize(
    ("name", "what", "factor", "after", "expected"),
    [
        ("vanilla", "kid_x1000", 1.6, 80_000, "worse than the mean image"),
        ("wgan-clip", "kid_x1000", 1.8, 90_000, "past its best"),
        ("wgan-gp", "loss/critic", 1000.0, 140_000, "diverged"),
        ("vanilla", "loss/critic", 0.02, 40_000, "critic wins"),
        ("vanilla", "loss/critic", 1.2, 60_000, "critic at chance"),
    ],
)
def test_a_log_that_turns_ill(name: str, what: str, factor: float, after: int, expected: str) -> None:
    """A log of a healthy run in which one curve is changed from some number of images on."""
    log, settings = earlier(name)
    found = judge(changed(log, what, factor, after), settings)
    assert found.name == expected in VERDICTS and found.cures
    assert after <= found.since <= found.images or expected == "diverged"


def test_measured_health_is_judged_too() -> None:
    log, settings = earlier("vanilla")
    line = dataclasses.replace(log[-1], name="health/diversity/Finding", value=0.01, low=None, high=None)
    found = judge([*log, line], settings)
    assert (found.name, found.detail) == ("collapsed", "class Finding")
    line = dataclasses.replace(line, name="health/training_over_held_out", value=0.95)
    assert judge([*log, line], settings).name == "critic memorises"
    assert judge([*log, dataclasses.replace(line, value=0.7)], settings).name == "healthy"


def test_a_critic_that_memorises_is_said_to_know_so_many_images() -> None:
    log, settings = earlier("vanilla")
    line = dataclasses.replace(log[-1], name="health/training_over_held_out", value=0.95)
    found = judge([*log, line], settings, training_images=1_280)
    assert "the critic scores one of the 1,280 training images above a held-out one in 95%" in str(found)
    assert "scores a training image above" in judge([*log, line], settings).numbers


def test_swapped_labels_are_named() -> None:
    """Training images are named at once, generated ones twice in a row, where held-out ones tell."""
    log, settings = earlier("vanilla")

    def named(training: float, *generated: float) -> tuple[str, str]:
        like = dataclasses.replace(log[-1], low=None, high=None)
        lines = [dataclasses.replace(like, name="health/labels/training", value=training)]
        lines += [dataclasses.replace(like, name="health/labels", value=value) for value in generated]
        found = judge([*log, *lines], settings)
        return found.name, found.detail

    assert named(0.2, 0.6, 0.6) == ("labels swapped", "training images")
    assert named(0.8, 0.2, 0.25) == ("labels swapped", "generated images")
    for values in ((0.8, 0.2, 0.5), (0.8, 0.2), (0.6, 0.2, 0.2), (0.8, 0.5, 0.5)):
        assert named(*values) == ("healthy", ""), values


def test_a_failed_run_is_judged_by_its_cause() -> None:
    log, settings = earlier("vanilla")
    cause = "gradients or weights are not finite between images 1 and 2"
    assert judge(log, settings, "failed", cause).name == "diverged"
    assert judge(log, settings, "done", cause).name == "healthy"


def test_nothing_measured_is_too_early() -> None:
    _, settings = earlier("vanilla")
    assert judge([], settings).name == "too early"


@pytest.mark.parametrize(
    ("images", "settings", "due"),
    [
        (0, {}, 20_000),
        (12_000, {}, 20_000),
        (19_200, {"train.batch": "64"}, 20_032),  # a batch may end later
        (20_032, {"train.batch": "64"}, 20_032),  # stopped while it was evaluated
        (25_000, {}, 40_000),
        (12_000, {"train.images": "15000"}, 15_000),
        (12_000, {"eval.every": "0"}, 100_000),
    ],
)
def test_before_the_first_evaluation_it_is_said_when_that_comes(
    images: int, settings: dict[str, str], due: int
) -> None:
    line = Metric(images, 1, "loss/critic", "", 1.0, 1, None, None, None, None, 0.0)
    asked = {"train.batch": "40", "train.images": "100000", "eval.every": "20000"}
    found = judge([line], asked | settings)
    assert str(found) == f"too early: not evaluated yet: the next evaluation comes at {due:,} images"


def test_a_cure_is_no_setting_that_the_run_has() -> None:
    """Rates far from what is common come first, as words that can be typed."""
    plain = {"optim.generator.lr": "5e-4", "optim.critic.lr": "5e-4", "train.precision": "bf16"}
    assert "--clip.name norm --clip.value 1" in cures("diverged", plain)
    assert "--train.precision no" in cures("diverged", plain)
    assert "--ema.ramp 0.05" in cures("worse than the mean image", plain)
    has = {"clip.name": "norm", "train.precision": "no", "ema.ramp": "0.05", "optim.critic.lr": "0.1"}
    found = cures("diverged", plain | has)
    assert found[0].startswith("--optim.critic.lr 5e-4: 0.1 is unusual")
    assert not [cure for cure in found if "clip" in cure or "precision" in cure or "by 4" in cure]
    assert "--ema.ramp 0.05" not in cures("worse than the mean image", plain | has)
