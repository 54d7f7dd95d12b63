"""Shows that the promise tests can fail: each bug, planted in the worker processes, is caught by a check."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cases import BATCH, Case, full_case, norm_case
from helpers.checks import BIASES, check_continues, check_same_draws, check_same_step, check_same_training
from helpers.mutants import MUTANTS, SMALL_MUTANTS, step_mutants, train_mutants
from helpers.training import Trained, save_in_mid_training
from helpers.worlds import run_world, run_worlds

from chexdist.data import loader

pytestmark = pytest.mark.mutants

UNEVEN = 3  # ranks: 16 images in groups of 2 are shares of 4, 6 and 6

SUM = {
    "batch norm over the rank's share": norm_case(),
    "one interpolation weight for all": full_case(),
    "mean of means": full_case(),
    "gradient norm clipped before the reduction": norm_case(),
    "a seed for each rank": full_case(),
    "the same latents on all ranks": norm_case(),
    "gradients never reduced": full_case(),
    "labels from torch.rand": full_case(),
    "a share without the remainder": full_case(),
    "averaged on rank 0 only": norm_case(),
}
"""Which case shows the bug to the checks of the promise Sum."""

DRAWS = {
    "one interpolation weight for all",
    "a seed for each rank",
    "the same latents on all ranks",
    "labels from torch.rand",
    "a share without the remainder",
}
"""Which bugs the check of the promise Noise must see."""

SMALL = {
    "a step 1.0001 times as long": (full_case(), "critic.* differs by .* more than its gradients explain"),
    "an average 0.9999 times as fast": (full_case(), "ema.* differs by .* more than its gradients explain"),
    "a clip 1.0001 times as wide": (norm_case(), "clipped gradient, .* relative error 1.0e-04"),
    "a moment forgotten": (norm_case(), "another exp_avg before the step"),
}
"""Which case shows a small bug to the check of a step in float32, and what that check says."""

SOUND = [("none", full_case()), ("none", norm_case())]
Planted = dict[tuple[str, str], tuple[Trained, list[Trained]]]
"""By (mutant, case): a world of one, and the ranks of an uneven world, both with the bug."""


def _by_mutant(planted: list[tuple[str, Case]], worlds: dict[int, list[list[Trained]]]) -> Planted:
    return {
        (mutant, case.name): (worlds[1][0][index], [rank[index] for rank in worlds[UNEVEN]])
        for index, (mutant, case) in enumerate(planted)
    }


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(images=40, samples_per_shard=14)


@pytest.fixture(scope="module")
def trained(shards: Path) -> Planted:
    """Trainings in float64."""
    planted = [*SOUND, *SUM.items()]
    return _by_mutant(planted, run_worlds(train_mutants, dict.fromkeys((1, UNEVEN), (shards, planted))))


@pytest.fixture(scope="module")
def stepped(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A step in float32, in mid-training."""
    folder = tmp_path_factory.mktemp("mid-training")
    planted = [*SOUND, *SUM.items(), *((mutant, case) for mutant, (case, _) in SMALL.items())]
    run_world(1, save_in_mid_training, shards, [full_case(), norm_case()], folder)
    given = (shards, planted, folder)
    return _by_mutant(planted, run_worlds(step_mutants, dict.fromkeys((1, UNEVEN), given)))


def test_every_mutant_has_a_check() -> None:
    assert SUM.keys() == MUTANTS.keys() - {"none"} and SMALL.keys() == SMALL_MUTANTS.keys()


@pytest.mark.parametrize("case", [full_case(), norm_case()], ids=["full", "norm"])
def test_without_a_bug_all_checks_pass(case: Case, trained: Planted, stepped: Planted) -> None:
    alone, ranks = trained["none", case.name]
    assert check_same_training(alone, ranks, case.name) <= 1e-10
    check_same_draws(alone.draws, [rank.draws for rank in ranks], BATCH, case.name)
    assert check_same_step(*stepped["none", case.name], case.name) <= BIASES


@pytest.mark.parametrize("mutant", SUM)
def test_sum_check_fails(mutant: str, trained: Planted) -> None:
    with pytest.raises(AssertionError):
        check_same_training(*trained[mutant, SUM[mutant].name], mutant)


@pytest.mark.parametrize("mutant", SUM)
def test_float32_check_fails(mutant: str, stepped: Planted) -> None:
    with pytest.raises(AssertionError):
        check_same_step(*stepped[mutant, SUM[mutant].name], mutant)


@pytest.mark.parametrize("mutant", SMALL)
def test_float32_check_fails_for_a_small_bug(mutant: str, stepped: Planted) -> None:
    case, message = SMALL[mutant]
    with pytest.raises(AssertionError, match=message):
        check_same_step(*stepped[mutant, case.name], mutant)


@pytest.mark.parametrize("mutant", sorted(DRAWS))
def test_draws_check_fails(mutant: str, trained: Planted) -> None:
    alone, ranks = trained[mutant, SUM[mutant].name]
    with pytest.raises(AssertionError):
        check_same_draws(alone.draws, [rank.draws for rank in ranks], BATCH, mutant)


def test_cursor_off_by_one(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_continues(shards, workers=0, first=3)
    monkeypatch.setattr(loader, "count", lambda first: itertools.count(first and first + 1))
    with pytest.raises(AssertionError):
        check_continues(shards, workers=0, first=3)
