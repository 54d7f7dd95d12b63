"""Starts the process group of the launcher's world through Accelerate, which chooses the device and holds the
tracker.
"""

import warnings
from datetime import timedelta

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

from chexdist.config.tree import Run
from chexdist.distributed.world import World
from chexdist.errors import UserError

UNTRACKED = Run()


def make_accelerator(world: World, timeout_seconds: int, run: Run = UNTRACKED) -> Accelerator:
    """Accelerate's device, process group and tracker; waits for all ranks.

    Raises:
        UserError: Accelerate sees another world than the launcher described.
        RuntimeError: not all ranks came within `timeout_seconds`.
    """
    # weights with one input channel have two equal layouts; DDP guesses one and warns of the other
    warnings.filterwarnings("ignore", message="Grad strides do not match", category=UserWarning)
    # its replacement, forward_sync_buffers, is not among the arguments that Accelerate passes on
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
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
