"""What many ranks hold open, against a process's limit: each case in a process of its own, as a limit that is
lowered stays low.
"""

import os
import subprocess
import sys

import pytest

from chexdist.distributed.open_files import SPARE, needed
from chexdist.doctor import simulate
from chexdist.doctor.finding import Findings, Note, Verdict

PROGRAM = """
import resource, sys
soft, hard, ranks = map(int, sys.argv[1:])
from chexdist.distributed.open_files import raise_limit
from chexdist.errors import UserError
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    raise_limit(ranks)
except UserError as error:
    print("refused:", error)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits(soft: int, hard: int, ranks: int) -> list[str]:
    words = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(ranks)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ))
    return done.stdout.splitlines()


@pytest.mark.parametrize("ranks", [2, 6])
def test_the_count_is_the_counted_one(ranks: int) -> None:
    """28 and 40 files were open in rank 0 of two gloo groups."""
    assert needed(ranks) - SPARE == {2: 28, 6: 40}[ranks]


def test_a_low_soft_limit_is_raised_to_the_hard_one() -> None:
    assert limits(128, 900, 64) == ["900 900"]


def test_an_enough_limit_and_one_rank_are_left_alone() -> None:
    assert limits(500, 900, 64) == ["500 900"]
    assert limits(64, 64, 1) == ["64 64"]


def test_a_hard_limit_that_is_too_low_is_refused() -> None:
    refused, left = limits(128, 300, 64)
    assert left == "128 300"
    assert "64 ranks need up to 314 open files" in refused and "may have 300" in refused


@pytest.mark.parametrize(("limit", "verdict"), [(1024, Verdict.FAULT), (4096, Verdict.OK)])
def test_doctor_says_so_of_a_thousand_ranks(
    monkeypatch: pytest.MonkeyPatch, limit: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(simulate, "hard_limit", lambda: float(limit))
    findings = Findings()
    simulate.check_open_files(Note("open files", findings.found), 1024)
    (finding,) = findings.found
    assert finding.verdict == verdict and "3,194" in finding.text and f"{limit:,}" in finding.text


def test_doctor_says_what_a_thousand_ranks_ask_of_the_disk() -> None:
    findings = Findings()
    simulate.check_control(Note("control", findings.found), 1024)
    (finding,) = findings.found
    assert "205 heartbeats and 512 looks" in finding.text and "within 12 s" in finding.text
