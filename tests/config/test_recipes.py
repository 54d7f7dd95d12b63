"""What the recipes' settings come to: weights by rule, ramps, upsampling; and runs of earlier releases."""

from typing import Any

import pytest

from chexdist.config.load import build_config, load_config
from chexdist.config.rules import check_unchanged, frozen
from chexdist.config.tree import Config, Ramp
from chexdist.errors import UserError


def config(**sections: Any) -> Config:
    return build_config({"model": {"name": "dcgan"}, "loss": {"name": "hinge"}} | sections)


@pytest.mark.parametrize(
    ("penalty", "size", "batch", "weight"),
    [
        ("r1", 64, 16, 0.0512),  # 0.0002 * 4096 / 16
        ("r1", 256, 16, 0.8192),
        ("r1+r2", 128, 64, 0.0512),
        ("r1", 512, 8, 6.5536),
        ("gp", 64, 16, 10.0),
        ("gp", 256, 64, 10.0),
    ],
)
def test_weight_by_rule(penalty: str, size: int, batch: int, weight: float) -> None:
    """As a number in the resolved tree, so that a run that resumes has the same."""
    resolved = config(
        model={"name": "wgan", "size": size},
        penalty={"name": penalty, "weight": "auto"},
        train={"batch": batch},
    )
    assert resolved.penalty.weight == pytest.approx(weight, rel=1e-12)
    assert frozen(resolved)["penalty.weight"] == resolved.penalty.weight
    assert build_config(resolved.model_dump(mode="json")) == resolved


def test_a_tree_with_ramps_reads_back() -> None:
    given = load_config(
        "residual", ["--optim.critic.lr", "{start: 5.0e-4, end: 5e-5, images: 1000}", "--ema.ramp=0.1"]
    )
    assert given.optim.critic.lr == Ramp(start=5e-4, end=5e-5, images=1000, shape="cosine")
    assert build_config(given.model_dump(mode="json")) == given


RAMP: dict[str, Any] = {"start": 0.5, "end": 0.1, "images": 100}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a number below": (
        {"penalty": {"weight": 0}},
        "penalty.weight 0: must be a number above 0, a ramp or auto",
    ),
    "a word": (
        {"penalty": {"weight": "atuo"}},
        "penalty.weight 'atuo': must be a number above 0, a ramp or auto",
    ),
    "a number above": (
        {"augment": {"probability": 1.5}},
        "augment.probability 1.5: must be a number from 0 to 1 or a ramp",
    ),
    "a list": (
        {"optim": {"generator": {"lr": [1]}}},
        "optim.generator.lr [1]: must be a number above 0 or a ramp",
    ),
    "a part is missing": (
        {"optim": {"critic": {"lr": {"start": 1, "end": 2}}}},
        "optim.critic.lr.images: must be set",
    ),
    "a part is wrong": (
        {"optim": {"critic": {"lr": {**RAMP, "shape": "cubic"}}}},
        "optim.critic.lr.shape 'cubic': must be 'linear' or 'cosine'",
    ),
    "a part is negative": (
        {"penalty": {"weight": {**RAMP, "end": -1}}},
        "penalty.weight.end -1: must be greater than or equal to 0",
    ),
    "a part has another name": (
        {"penalty": {"weight": {**RAMP, "strat": 1}}},
        "penalty.weight.strat: no such setting; the nearest is penalty.weight.start",
    ),
    "a ramp of no length": (
        {"optim": {"critic": {"lr": {**RAMP, "images": 0}}}},
        "optim.critic.lr.images 0: must be greater than or equal to 1",
    ),
    "a ramp to more than all": (
        {"augment": {"probability": {**RAMP, "end": 1.5}}},
        "augment.probability: a ramp of probabilities stays within 0 and 1",
    ),
    "upsampling where there is none": (
        {"model": {"name": "vanilla", "upsampling": "nearest"}},
        "model.upsampling nearest: the generator of a vanilla has no such choice; set it to transposed",
    ),
    "upsampling where it is given": (
        {"model": {"name": "residual", "upsampling": "bilinear"}},
        "model.upsampling bilinear: the generator of a residual has no such choice; set it to transposed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_one_line(case: str) -> None:
    given, line = WRONG[case]
    with pytest.raises(UserError) as caught:
        config(**given)
    assert str(caught.value) == line


NEW = {
    "model.upsampling",
    "augment.probability",
    "ema.ramp",
}
"""Frozen settings that runs of earlier releases do not have in their checkpoints."""


def test_a_run_from_before_a_setting_existed_had_its_default() -> None:
    """The keys of a checkpoint of an earlier release: `tests/earlier_runs` was trained by one."""
    now = frozen(config(train={"precision": "no"}))
    assert now.keys() >= NEW
    before = {key: value for key, value in now.items() if key not in NEW}
    check_unchanged(before, now)
    check_unchanged(before, {**now, "train.precision": "auto"})
    with pytest.raises(UserError, match="model.upsampling was transposed, is bilinear"):
        check_unchanged(before, frozen(config(model={"name": "dcgan", "upsampling": "bilinear"})))
    with pytest.raises(UserError, match="ema.ramp was 0.0, is 0.05"):
        check_unchanged(before, frozen(config(ema={"ramp": 0.05})))


def test_a_constant_in_place_of_a_ramp_is_refused_and_the_reverse() -> None:
    ramp, constant = (frozen(config(optim={"critic": {"lr": lr}})) for lr in (RAMP, 0.5))
    for before, now in ((ramp, constant), (constant, ramp), (ramp, {**ramp, "optim.critic.lr.end": 0.2})):
        with pytest.raises(UserError, match=r"optim\.critic\.lr"):
            check_unchanged(before, now)
    check_unchanged(ramp, dict(ramp))
