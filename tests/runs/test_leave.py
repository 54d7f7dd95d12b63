"""A rank that is done ends with its code, whatever the threads of its backend still hold."""

import os
import signal
from pathlib import Path

from helpers import jobs

ABORT_IN_FINALIZATION = "import atexit, os; atexit.register(os.abort)"
"""Stands in for a thread of gloo that lets go of a tensor too late."""


def ends(shards: Path, folder: Path, size: int) -> list[int]:
    """The exit codes of ranks whose interpreters can't be torn down."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site/sitecustomize.py").write_text(ABORT_IN_FINALIZATION)
    environment = {"PYTHONPATH": f"{folder / 'site'}:{os.getcwd()}", "OMP_NUM_THREADS": "1"}
    if size > 1:
        environment |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        environment |= {"MASTER_PORT": str(jobs.free_port())}
    words = jobs.small(shards, folder / f"run-{size}", "vanilla")
    ranks = [
        jobs.true_command(
            words, **environment, **({"RANK": str(n), "LOCAL_RANK": str(n)} if size > 1 else {})
        )
        for n in range(size)
    ]
    output = [rank.communicate(timeout=120) for rank in ranks]
    assert jobs.status(folder / f"run-{size}")["state"] == "done", output
    return [rank.returncode for rank in ranks]


def test_ranks_of_several_end_at_once(shards: Path, tmp_path: Path) -> None:
    assert ends(shards, tmp_path, 2) == [0, 0]


def test_one_process_ends_as_any_program(shards: Path, tmp_path: Path) -> None:
    assert ends(shards, tmp_path, 1) == [-signal.SIGABRT]
