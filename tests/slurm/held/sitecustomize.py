"""Holds the ranks of a Slurm job at a batch until they are asked to stop: no test depends on speed.

Python imports this first where its folder is on PYTHONPATH. HELD_AT: the batch of each start of the job, such
as "5,7"; later starts are not held. HELD_IN: where a file RANK-START has the node's name once a rank is held.
"""

import os
import platform
import time
from pathlib import Path
from typing import Any

START = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
BATCHES = [int(batch) for batch in os.environ.get("HELD_AT", "").split(",") if batch]


def hold(at: int) -> None:
    """Wrap the training step and the signal handler."""
    from chexdist.distributed.stop_request import StopRequest
    from chexdist.training.step import Step

    step, ask = Step.__call__, StopRequest._request
    asked = []

    def held_step(self: Step, t: int, *rest: Any) -> Any:
        if t == at:
            (Path(os.environ["HELD_IN"]) / f"{os.environ.get('RANK', '0')}-{START}").write_text(
                platform.node()
            )
            while not asked:
                time.sleep(0.05)
        return step(self, t, *rest)

    def noted(self: StopRequest, *signal: Any) -> None:
        asked.append(signal)
        ask(self, *signal)

    Step.__call__, StopRequest._request = held_step, noted  # type: ignore[method-assign]


ALONE = "SLURM_STEP_ID" in os.environ and os.environ.get("CHEXDIST_WORLD_SIZE") == "1"
if ("RANK" in os.environ or ALONE) and START < len(BATCHES):
    hold(BATCHES[START])
