"""Settings that move: ramps in closed form, the average's half-life, and what the log says of them."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexdist.config.load import build_config
from chexdist.config.tree import Config, Ramp
from chexdist.training.schedule import Values, moving_settings, value_at

NUMBERS = st.floats(0, 1e6)
IMAGES = st.integers(1, 10**7)


def config(**sections: Any) -> Config:
    return build_config({"model": {"name": "residual"}, "loss": {"name": "relativistic"}} | sections)


@given(NUMBERS, st.integers(0, 10**9))
def test_a_constant_is_constant(value: float, images: int) -> None:
    assert value_at(value, images) == value


@pytest.mark.parametrize(
    ("shape", "images", "expected"),
    [
        ("linear", 0, 8.0),
        ("linear", 25, 7.0),
        ("linear", 50, 6.0),
        ("linear", 99, 4.04),
        ("linear", 100, 4.0),
        ("linear", 10**9, 4.0),
        ("cosine", 0, 8.0),
        ("cosine", 25, 6 + 2 / math.sqrt(2)),
        ("cosine", 50, 6.0),
        ("cosine", 75, 6 - 2 / math.sqrt(2)),
        ("cosine", 100, 4.0),
        ("cosine", 10**9, 4.0),
    ],
)
def test_a_ramp_by_hand(shape: Any, images: int, expected: float) -> None:
    assert value_at(Ramp(start=8, end=4, images=100, shape=shape), images) == pytest.approx(expected)


@given(NUMBERS, NUMBERS, IMAGES, st.sampled_from(["linear", "cosine"]), st.integers(0, 2 * 10**7), IMAGES)
def test_a_ramp_stays_between_its_ends_and_never_turns(
    start: float, end: float, length: int, shape: Any, images: int, more: int
) -> None:
    ramp = Ramp(start=start, end=end, images=length, shape=shape)
    here, later = value_at(ramp, images), value_at(ramp, images + more)
    rounding = 1e-12 * max(start, end)
    assert min(start, end) - rounding <= here <= max(start, end) + rounding
    assert (later - here) * (end - start) >= -rounding * max(start, end)
    assert value_at(ramp, 0) == start
    assert value_at(ramp, length) == end == value_at(ramp, length + more)


@pytest.mark.parametrize("n_critic", [1, 2])
def test_the_average_follows_the_rule_of_stylegan2_ada(n_critic: int) -> None:
    """Its loop: ema_nimg = min(ema_kimg * 1000, cur_nimg * ema_rampup), ema_beta = 0.5 ** (batch_size /
    max(ema_nimg, 1e-8)), where cur_nimg counts the images before the batch."""
    batch, halflife, ramp = 16, 500.0, 0.05
    moving = config(train={"batch": batch, "n_critic": n_critic}, ema={"halflife": halflife, "ramp": ramp})
    found, expected = [], []
    for images in range(0, 20_000, batch):
        ema_nimg = min(halflife, images * ramp)
        expected.append(0.5 ** (n_critic * batch / max(ema_nimg, 1e-8)))
        found.append(Values.at(moving, images).ema_decay)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert found[0] == 0 and found == sorted(found) and found[-1] == 0.5 ** (n_critic * batch / halflife)


@given(st.integers(0, 10**6))
def test_without_a_ramp_the_average_is_what_it_was(images: int) -> None:
    still = config(train={"batch": 16, "n_critic": 2}, ema={"halflife": 500})
    assert Values.at(still, images).ema_decay == 0.5 ** (32 / 500)


RAMP = {"start": 1e-3, "end": 0.0, "images": 160, "shape": "linear"}


def test_each_setting_moves_by_itself() -> None:
    moving = config(
        optim={"generator": {"lr": RAMP}, "critic": {"lr": {**RAMP, "images": 320}}},
        penalty={"name": "r1+r2", "weight": {**RAMP, "start": 2, "end": 1}},
        augment={"name": "translate", "probability": {**RAMP, "start": 0, "end": 1}},
        ema={"ramp": 0.05},
    )
    values = Values.at(moving, 80)
    assert values.generator_lr == pytest.approx(5e-4) and values.critic_lr == pytest.approx(7.5e-4)
    assert values.penalty_weight == pytest.approx(1.5) and values.augment_probability == pytest.approx(0.5)
    assert moving_settings(moving, 80) == {
        "schedule/optim.generator.lr": values.generator_lr,
        "schedule/optim.critic.lr": values.critic_lr,
        "schedule/penalty.weight": values.penalty_weight,
        "schedule/augment.probability": values.augment_probability,
        "schedule/ema.decay": values.ema_decay,
    }


def test_what_does_not_move_is_not_in_the_log() -> None:
    assert moving_settings(config(), 80) == {}
    moving = config(optim={"critic": {"lr": RAMP}})
    assert moving_settings(moving, 160) == {"schedule/optim.critic.lr": 0.0}
