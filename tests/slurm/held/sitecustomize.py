"""Holds the ranks of a Slurm job at a batch until they are asked to stop: no test depends on speed.

Python imports this first where its folder is on PYTHONPATH. HELD_AT: the batch of each start of the job, such
as "5,7", or "starting"; later starts are not held. HELD_IN: where a file RANK-START, or TASK-RANK-START of an
array, has the node's name once a rank is held; a file `release` there lets it go on unasked. HELD_TASK: the
only task of an array that is held.
"""

import os
import platform
import time
from pathlib import Path
from typing import Any

START = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
TASK = os.environ.get("SLURM_ARRAY_TASK_ID", "")
HELD_AT = os.environ.get("HELD_AT", "").split(",")
FOLDER = Path(os.environ.get("HELD_IN", ""))


def note() -> None:
    """Say where this rank is held."""
    name = f"{os.environ.get('RANK', '0')}-{START}"
    (FOLDER / (f"{TASK}-{name}" if TASK else name)).write_text(platform.node())


def hold(at: int) -> None:
    """Wrap the training step and the signal handler."""
    from chexdist.distributed.stop_request import StopRequest
    from chexdist.training import stop_vote
    from chexdist.training.step import Step

    setattr(stop_vote, "SECONDS_BETWEEN", 0)  # noqa: B010  a vote with each batch: there are only a few
    step, ask = Step.__call__, StopRequest._request
    asked = []

    def held_step(self: Step, t: int, *rest: Any) -> Any:
        if t == at:
            note()
            while not asked and not (FOLDER / "release").exists():
                time.sleep(0.05)
        return step(self, t, *rest)

    def noted(self: StopRequest, *signal: Any) -> None:
        asked.append(signal)
        ask(self, *signal)

    Step.__call__, StopRequest._request = held_step, noted  # type: ignore[method-assign]


ALONE = (
    "SLURM_STEP_ID" in os.environ
    and os.environ.get("CHEXDIST_WORLD_SIZE") == "1"
    and "--dry-run" not in Path("/proc/self/cmdline").read_text()
)
MINE = os.environ.get("HELD_TASK") in (None, TASK)
if ("RANK" in os.environ or ALONE) and START < len(HELD_AT) and HELD_AT[START] and MINE:
    if HELD_AT[START] == "starting":
        note()
        time.sleep(600)
    hold(int(HELD_AT[START]))
