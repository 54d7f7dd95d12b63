"""Order, noise, sum and ranks' agreement on the device, against a world of one on the CPU."""

from pathlib import Path

import numpy as np
import pytest
from helpers.cases import BATCH, Case, full_case, moving_case, norm_case, paired_case
from helpers.checks import check_same_draws, check_same_tensors, check_same_training, open_stream
from helpers.on_device import on_the_cpu, stored_again, sums_and_digests
from helpers.training import Trained, save_in_mid_training, step_in_mid_training, train_cases
from helpers.worlds import run_world

CASES = [full_case(), paired_case(), moving_case(), norm_case()]
ACROSS = 1e-4
"""Relative error in float32 of gradients on a GPU, whose convolutions add up otherwise than a CPU's."""


@pytest.fixture(scope="module")
def alone(shards: Path) -> list[Trained]:
    """Each case in float64, on the CPU, on one rank."""
    (found,) = run_world(1, on_the_cpu, train_cases, shards, [(case, 1, "float64") for case in CASES])
    return list(found)


def test_sum_and_noise(size: int, shards: Path, alone: list[Trained]) -> None:
    """Gradients, weights, losses and the average to 1e-10, latents and all other numbers to the last bit; all
    ranks hold the same weights."""
    ranks = run_world(size, train_cases, shards, [(case, 1, "float64") for case in CASES])
    for index, case in enumerate(CASES):
        of_case = [rank[index] for rank in ranks]
        assert check_same_training(alone[index], of_case, f"{case.name}, world {size}") <= 1e-10
        batch = case.config().train.batch
        check_same_draws(alone[index].draws, [each.draws for each in of_case], batch, case.name)


def test_one_rank_in_parts(shards: Path, alone: list[Trained]) -> None:
    """What several ranks would take, in turn: a single GPU shows this much of the sum."""
    (found,) = run_world(1, train_cases, shards, [(case, 4, "float64") for case in CASES])
    for index, case in enumerate(CASES):
        assert check_same_training(alone[index], [found[index]], f"{case.name}, in 4 parts") <= 1e-10


def test_order(size: int, shards: Path) -> None:
    """Ranks' batches, joined, are those of one rank."""
    whole = open_stream(shards)
    ranks = [open_stream(shards, world_size=size, rank=rank) for rank in range(size)]
    for _ in range(6):
        pixels, labels = next(whole)
        parts = [next(rank) for rank in ranks]
        assert len(pixels) == BATCH
        assert np.array_equal(np.concatenate([part[0].numpy() for part in parts]), pixels.numpy())
        assert np.array_equal(np.concatenate([part[1].numpy() for part in parts]), labels.numpy())


@pytest.mark.parametrize("case", [full_case(), moving_case()], ids=["wgan", "residual"])
@pytest.mark.parametrize("written_on", ["device", "cpu"])
def test_a_checkpoint_goes_to_another_device(
    case: Case, written_on: str, shards: Path, tmp_path: Path
) -> None:
    """To the last bit, both ways; the next step's gradients agree."""
    here = (save_in_mid_training, shards, [case], tmp_path)
    there = (stored_again, shards, case, tmp_path / case.name, tmp_path / "again")
    if written_on == "device":
        run_world(1, *here)
        run_world(1, on_the_cpu, *there)
    else:
        run_world(1, on_the_cpu, *here)
        run_world(1, *there)
    first, second = (
        {path.name: path.read_bytes() for path in sorted(folder.glob("checkpoints/*/*.safetensors"))}
        for folder in (tmp_path / case.name, tmp_path / "again")
    )
    assert len(first) == 5 and first == second
    ((expected,),) = run_world(1, on_the_cpu, step_in_mid_training, shards, [(case, 1)], tmp_path)
    ((found,),) = run_world(1, step_in_mid_training, shards, [(case, 1)], tmp_path)
    check_same_tensors(expected.gradients, found.gradients, ACROSS, case.name, biases=10 * ACROSS)


def test_sums_are_read_late_and_digests_are_of_bits() -> None:
    (found,) = run_world(1, sums_and_digests)
    (expected,) = run_world(1, on_the_cpu, sums_and_digests)
    assert found["late"].tobytes() == found["expected"].tobytes() == expected["expected"].tobytes()
    assert np.array_equal(found["digests"], expected["digests"])
    assert np.array_equal(found["flipped"], expected["flipped"])
    assert (found["flipped"] != found["digests"]).any(axis=1).tolist() == [True, False]
