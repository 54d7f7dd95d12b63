"""Promise 3: whatever the GAN, loss, penalty, clip and norm, a step gives the same at any world size and accumulation."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cases import CLIPS, Case, every_combination, special_cases
from helpers.checks import check_same_training
from helpers.training import Trained, save_in_mid_training, step_in_mid_training, train_cases
from helpers.worlds import run_world

from chexdist.config.rules import NORMS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES

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


@pytest.fixture(scope="module")
def mid_training(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trained]]:
    """Checkpoints of all cases in mid-training, float32, and what a world of one makes of the next batch."""
    folder = tmp_path_factory.mktemp("mid-training")
    jobs = _jobs(1, CASES, "float32")
    run_world(1, save_in_mid_training, shards, jobs, folder)
    (results,) = run_world(1, step_in_mid_training, shards, jobs, folder)
    return folder, results


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_float32(world_size: int, mid_training: tuple[Path, list[Trained]], shards: Path) -> None:
    """A step in mid-training: gradients, weights and the average.

    Not the very first step: there Adam divides each gradient by itself, and where the true gradient is 0 that is rounding by rounding.
    """
    folder, alone = mid_training
    jobs = _jobs(world_size, CASES, "float32")
    ranks = run_world(world_size, step_in_mid_training, shards, jobs, folder)
    for place, (case, accumulate, _) in enumerate(jobs):
        what = f"{case.name}, float32, world {world_size}, accumulate {accumulate}"
        check_same_training(alone[place], [rank[place] for rank in ranks], 1e-5, what)
