"""Shows that the promise tests can fail: each bug, planted in the worker processes, is caught by the check that is for it."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.cases import BATCH, Case, full_case, norm_case
from helpers.checks import check_continues, check_same_draws, check_same_training
from helpers.mutants import MUTANTS, train_mutants
from helpers.training import Trained
from helpers.worlds import run_world

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
"""Which case shows the bug to the check of promise 3."""

DRAWS = {
    "one interpolation weight for all",
    "a seed for each rank",
    "the same latents on all ranks",
    "labels from torch.rand",
    "a share without the remainder",
}
"""Which bugs the check of promise 2 must see."""

PLANTED = [("none", full_case()), ("none", norm_case()), *SUM.items()]


@pytest.fixture(scope="module")
def trained(build_shards: Callable[..., Path]) -> dict[tuple[str, str], tuple[Trained, list[Trained]]]:
    """By (mutant, case): a world of one, and the ranks of an uneven world, both with the bug."""
    shards = build_shards(images=40, samples_per_shard=14)
    (alone,) = run_world(1, train_mutants, shards, PLANTED)
    ranks = run_world(UNEVEN, train_mutants, shards, PLANTED)
    return {
        (mutant, case.name): (alone[place], [rank[place] for rank in ranks])
        for place, (mutant, case) in enumerate(PLANTED)
    }


def test_every_mutant_has_a_check() -> None:
    assert SUM.keys() == MUTANTS.keys() - {"none"}


@pytest.mark.parametrize("case", [full_case(), norm_case()], ids=["full", "norm"])
def test_without_a_bug_all_checks_pass(case: Case, trained: dict) -> None:
    alone, ranks = trained["none", case.name]
    check_same_training(alone, ranks, 1e-10, case.name)
    check_same_draws(alone.draws, [rank.draws for rank in ranks], BATCH, case.name)


@pytest.mark.parametrize("mutant", SUM)
def test_sum_check_fails(mutant: str, trained: dict) -> None:
    alone, ranks = trained[mutant, SUM[mutant].name]
    with pytest.raises(AssertionError):
        check_same_training(alone, ranks, 1e-10, mutant)


@pytest.mark.parametrize("mutant", sorted(DRAWS))
def test_draws_check_fails(mutant: str, trained: dict) -> None:
    alone, ranks = trained[mutant, SUM[mutant].name]
    with pytest.raises(AssertionError):
        check_same_draws(alone.draws, [rank.draws for rank in ranks], BATCH, mutant)


def test_cursor_off_by_one(build_shards: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shards = build_shards(images=40, samples_per_shard=14)
    check_continues(shards, workers=0, first=3)
    monkeypatch.setattr(loader, "count", lambda first: itertools.count(first and first + 1))
    with pytest.raises(AssertionError):
        check_continues(shards, workers=0, first=3)
