"""Starts the process group of the launcher's world through Accelerate, which chooses the device and holds the
tracker.
"""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from chexdist.config.tree import Run
from chexdist.distributed.world import VARIABLES, World
from chexdist.errors import UserError

UNTRACKED = Run()
SECONDS_UNSAID = 5
"""How long other ranks are waited for before a line says so; three times that on all but rank 0."""


def make_accelerator(world: World, timeout_seconds: int, run: Run = UNTRACKED) -> Accelerator:
    """Accelerate's device, process group and tracker; waits for all ranks.

    Raises:
        UserError: Accelerate sees another world than the launcher described, or it is not described whole.
        RuntimeError: not all ranks came within `timeout_seconds`.
    """
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if world.size > 1 and not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE={world.size} says that there are {world.size} ranks, but not at which address "
            f"({' and '.join(missing)} not set): start with a launcher, or unset {' '.join(VARIABLES)}"
        )
    # weights with one input channel have two equal layouts; DDP guesses one and warns of the other
    warnings.filterwarnings("ignore", message="Grad strides do not match", category=UserWarning)
    # its replacement, forward_sync_buffers, is not among the arguments that Accelerate passes on
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
    with _saying_what_is_waited_for(world, timeout_seconds):
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",  # in place of what variables say, as the next: the step sets its precision
            dynamo_backend="no",
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timedelta(seconds=timeout_seconds)),
            ],
            log_with=None if run.tracker == "none" else run.tracker,
            project_dir=run.dir,
        )
    if accelerator.num_processes != world.size:
        raise UserError(
            f"the launcher says {world.size} ranks, Accelerate sees {accelerator.num_processes}: "
            "start with one of both"
        )
    return accelerator


@contextmanager
def _saying_what_is_waited_for(world: World, timeout: int) -> Iterator[None]:
    """A line on standard error if the body takes longer than ranks that were started at one time need."""
    host, port = os.environ.get("MASTER_ADDR", "MASTER_ADDR"), os.environ.get("MASTER_PORT", "MASTER_PORT")
    line = (
        f"chexdist: rank {world.rank} waits at {host}:{port} for other ranks, at most {timeout} s "
        f"(control.timeout): WORLD_SIZE={world.size} says that there are {world.size}; if no launcher has "
        f"started this process, that was left in the shell: unset {' '.join(VARIABLES)}"
    )
    seconds = SECONDS_UNSAID * (3 if world.rank else 1)
    timer = threading.Timer(seconds, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    if world.size > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
