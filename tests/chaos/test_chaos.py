"""Trials, one after the other: each ends in time, says why, and the same command resumes to the same bytes.

CHAOS_TRIALS: how many; CHAOS_SECONDS: none begins later; CHAOS_SEED: of the first, the next has the next;
CHAOS_ONLY: the seed of the only one; CHAOS_TABLE: a file that gets a line for each.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.checks import Undisturbed, run, undisturbed
from chaos.schedule import trial
from chaos.targets import Lab

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]


def seeds() -> Iterator[int]:
    """As the variables say."""
    if only := os.environ.get("CHAOS_ONLY"):
        yield int(only)
        return
    first, number = int(os.environ.get("CHAOS_SEED", "0")), int(os.environ.get("CHAOS_TRIALS", "1000000"))
    end = time.monotonic() + float(os.environ.get("CHAOS_SECONDS", "600"))
    for seed in range(first, first + number):
        if time.monotonic() > end:
            return
        yield seed


def test_trials(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, also after one has failed."""
    references: dict[tuple[str, int], Undisturbed] = {}
    failed, tried = [], 0
    table = Path(os.environ.get("CHAOS_TABLE", lab.base / "trials.tsv"))
    for seed in seeds():
        wanted = trial(seed)
        place = (wanted.target, wanted.size)
        if place not in references:
            references[place] = undisturbed(lab, wanted)
        outcome = run(lab, wanted, references[place])
        tried += 1
        with table.open("a") as file:
            file.write(outcome.row() + "\n")
        with capsys.disabled():
            print(f"\n{outcome.row()[:300]}", flush=True)
        if outcome.wrong:
            failed.append(f"CHAOS_ONLY={seed}: {wanted}\n{outcome.wrong}")
    assert tried and not failed, "\n\n".join(failed)
