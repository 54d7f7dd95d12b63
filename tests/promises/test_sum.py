"""Promise 3: whatever the GAN, loss, penalty, clip and norm, a step gives the same at any world size and accumulation."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import CLIPS, Case, every_combination, special_cases
from checks import check_same_tensors, check_same_training
from training import Trained, gradients_at_start, train_cases
from worlds import run_world

from chexdist.config.rules import NORMS
from chexdist.losses import LOSSES
from chexdist.models import FAMILIES
from chexdist.penalties import PENALTIES

CASES = every_combination() + special_cases()


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(images=40, samples_per_shard=14)


def _jobs(world_size: int, cases: list[Case], dtype: str) -> list[tuple[Case, int, str]]:
    """A world of one accumulates nothing; the others take each case in one part or in two by turns."""
    return [
        (case, 1 + (place + world_size) % 2 if world_size > 1 else 1, dtype)
        for place, case in enumerate(cases)
    ]


@pytest.fixture(scope="module")
def alone(shards: Path) -> list[Trained]:
    (results,) = run_world(1, train_cases, shards, _jobs(1, CASES, "float64"))
    return results


def test_every_entry_of_the_registries_is_compared() -> None:
    """Nothing is refused but what the rules are there for."""
    compared = {tuple(case.settings[f"{key}.name"] for key in ("model", "loss", "penalty")) for case in CASES}
    assert compared == set(itertools.product(FAMILIES, LOSSES, PENALTIES))
    clipped = {(case.settings["model.name"], case.settings["clip.name"]) for case in CASES}
    assert clipped == set(itertools.product(FAMILIES, ["none", *CLIPS]))
    normed = {(case.settings["model.name"], case.settings["model.norm"]) for case in CASES}
    assert normed == {(model, norm) for model in FAMILIES for norm in NORMS[model]}


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_float64(world_size: int, alone: list[Trained], shards: Path) -> None:
    """After two or three batches; three ranks have uneven shares."""
    jobs = _jobs(world_size, CASES, "float64")
    ranks = run_world(world_size, train_cases, shards, jobs)
    for place, (case, accumulate, _) in enumerate(jobs):
        what = f"{case.name}, world {world_size}, accumulate {accumulate}"
        check_same_training(alone[place], [rank[place] for rank in ranks], 1e-10, what)


def test_float64_accumulated_alone(alone: list[Trained], shards: Path) -> None:
    places = range(0, len(CASES), 5)
    (again,) = run_world(1, train_cases, shards, [(CASES[place], 2, "float64") for place in places])
    for place, result in zip(places, again, strict=True):
        check_same_training(alone[place], [result], 1e-10, f"{CASES[place].name}, accumulate 2")


def test_float32(shards: Path) -> None:
    """Gradients of equal weights, with uneven shares. Not what follows: where a gradient is 0 but for rounding, Adam divides rounding by rounding.

    A single number, such as the last bias, is a sum of many of both signs, and loses a digit.
    """
    cases = [case for case in CASES if case.settings["clip.name"] == "none"]
    (alone,) = run_world(1, gradients_at_start, shards, _jobs(1, cases, "float32"))
    jobs = _jobs(3, cases, "float32")
    ranks = run_world(3, gradients_at_start, shards, jobs)
    for (case, accumulate, _), reference, other in zip(jobs, alone, ranks[0], strict=True):
        what = f"{case.name}, float32, accumulate {accumulate}"
        for name, expected in reference.items():
            tolerance = 1e-4 if expected.size == 1 else 1e-5
            check_same_tensors({name: expected}, {name: other[name]}, tolerance, what)
