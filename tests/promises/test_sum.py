"""Sum: with any GAN, loss, penalty, clip and norm, a step is the same at any world size and accumulation."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import CLIPS, Case, every_combination, full_case, moving_case, paired_case, special_cases
from helpers.checks import BIASES, check_same_step, check_same_training
from helpers.training import Trained, save_in_mid_training, step_in_mid_training, train_cases
from helpers.worlds import run_world, run_worlds

from chexdist.config.rules import NORMS
from chexdist.gan.losses import LOSSES
from chexdist.gan.models import FAMILIES
from chexdist.gan.penalties import PENALTIES

CASES = every_combination() + special_cases()


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(images=40, samples_per_shard=14)


WORLDS = (1, 2, 3, 4)
Worlds = dict[int, list[list[Trained]]]
"""By world size and rank: what each case came to."""


def _parts(world_size: int, index: int) -> int:
    """A world of one accumulates nothing; the others take each case in one part or in two by turns."""
    return 1 + (index + world_size) % 2 if world_size > 1 else 1


@pytest.fixture(scope="module")
def trained(shards: Path) -> Worlds:
    """Two or three batches in float64."""

    def jobs(size: int) -> list[tuple[Case, int, str]]:
        return [(case, _parts(size, index), "float64") for index, case in enumerate(CASES)]

    return run_worlds(train_cases, {size: (shards, jobs(size)) for size in WORLDS})


def test_every_entry_of_the_registries_is_compared() -> None:
    """Nothing is refused but what the rules are there for."""
    compared = {tuple(case.settings[f"{key}.name"] for key in ("model", "loss", "penalty")) for case in CASES}
    assert compared == set(itertools.product(FAMILIES, LOSSES, PENALTIES))
    clipped = {(case.settings["model.name"], case.settings["clip.name"]) for case in CASES}
    assert clipped == set(itertools.product(FAMILIES, ["none", *CLIPS]))
    normed = {(case.settings["model.name"], case.settings["model.norm"]) for case in CASES}
    assert normed == {(model, norm) for model in FAMILIES for norm in NORMS[model]}


@pytest.mark.parametrize("world_size", WORLDS[1:])
def test_float64(world_size: int, trained: Worlds) -> None:
    """After two or three batches; three ranks have uneven shares."""
    for index, case in enumerate(CASES):
        ranks = [rank[index] for rank in trained[world_size]]
        what = f"{case.name}, world {world_size}, accumulate {_parts(world_size, index)}"
        assert check_same_training(trained[1][0][index], ranks, what) <= 1e-10


def test_float64_accumulated_alone(trained: Worlds, shards: Path) -> None:
    indices = range(0, len(CASES), 5)
    (again,) = run_world(1, train_cases, shards, [(CASES[index], 2, "float64") for index in indices])
    for index, result in zip(indices, again, strict=True):
        what = f"{CASES[index].name}, accumulate 2"
        assert check_same_training(trained[1][0][index], [result], what) <= 1e-10


@pytest.fixture(scope="module")
def stepped(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """A step in float32 in mid-training, where every world reads the checkpoint of a world of one.

    Not the very first step: there Adam divides each gradient by itself, and where the true gradient is 0 that
    is rounding divided by rounding.
    """
    folder = tmp_path_factory.mktemp("mid-training")
    run_world(1, save_in_mid_training, shards, CASES, folder)

    def jobs(size: int) -> list[tuple[Case, int]]:
        return [(case, _parts(size, index)) for index, case in enumerate(CASES)]

    return run_worlds(step_in_mid_training, {size: (shards, jobs(size), folder) for size in WORLDS})


FLOAT32 = {"residual": 5e-5}
"""By GAN, where it is not 1e-5: with convolutions at the full side, the gradient of a bias of two numbers is
a sum over all pixels of real and generated images, which cancel; up to 2.3e-5, where float64 has 1e-10."""


@pytest.mark.parametrize("world_size", WORLDS[1:])
def test_float32(world_size: int, stepped: Worlds) -> None:
    """Gradients, weights and the average."""
    for index, case in enumerate(CASES):
        ranks = [rank[index] for rank in stepped[world_size]]
        what = f"{case.name}, float32, world {world_size}, accumulate {_parts(world_size, index)}"
        tolerance = FLOAT32.get(case.settings["model.name"], 1e-5)
        assert check_same_step(stepped[1][0][index], ranks, what, tolerance) <= BIASES


@pytest.mark.parametrize(
    "case", [full_case(), paired_case(), moving_case()], ids=["wgan", "dcgan", "residual"]
)
def test_bf16(case: Case, shards: Path) -> None:
    """The first update's gradients of each world, and of one rank that takes its shares in turn.

    Against one rank that takes the batch at once they would differ more: kernels for other numbers of images
    round otherwise, and a gradient jumps where a rectifier's input is rounded to its other side.
    """
    rounded = replace(case, settings=case.settings | {"train.precision": "bf16"})
    sizes = (2, 4)
    turns = [(rounded, size, "float32") for size in sizes]
    (alone,) = run_world(1, train_cases, shards, turns)
    trained = run_worlds(train_cases, {size: (shards, [(rounded, 1, "float32")]) for size in sizes})
    for size, in_turn in zip(sizes, alone, strict=True):
        ranks = [rank[0] for rank in trained[size]]
        assert len({rank.digest for rank in ranks}) == 1
        for name, gradient in in_turn.gradients.items():
            norm = np.linalg.norm(gradient)
            difference = np.linalg.norm(ranks[0].gradients[name] - gradient)
            within = difference <= 1e-5 * norm
            assert 0 < norm and within, f"world {size}, {name}: {difference / norm:.1e}"
