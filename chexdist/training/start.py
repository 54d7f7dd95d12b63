"""One start of a run on one rank: process group, lock and heartbeat, then the trainer; and what is reported
of a failure.
"""

import re
from contextlib import suppress
from pathlib import Path
from threading import Event

import torch
from torch import distributed

from chexdist.config.tree import Config
from chexdist.data.loader import DIED
from chexdist.data.manifest import Manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.heartbeat import LOST, Heartbeat
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.stop_request import StopRequest
from chexdist.distributed.world import World
from chexdist.errors import AgreedError, UserError, WorkError
from chexdist.run import checkpoint, layout
from chexdist.run.directory import RunDirectory
from chexdist.training.patience import SECONDS_TO_STOP
from chexdist.training.precision import automatic, with_precision
from chexdist.training.shared_memory import check_shared_memory
from chexdist.training.trainer import Trainer

PATIENCE = {"starting": 0, "measuring real images": 0, "evaluating": SECONDS_TO_STOP}
"""Seconds that a requested stop may wait, by what the rank does; the loop obeys it in all else."""


def train(config: Config, manifest: Manifest, world: World, asked: Event | None = None) -> int:
    """Train until `train.images`, from the newest checkpoint of `run.dir`. Returns the exit code: 0, or 75
    after an agreed stop, for which a signal or `asked` is set.

    Raises:
        UserError, WorkError: as the parts do; the cause is then in the run's status, unless another job holds
            the lock.
    """
    stop = StopRequest(world.is_main, asked)
    run = RunDirectory(Path(config.run.dir))
    stop.leave = run.stopped
    try:
        accelerator = make_accelerator(world, config.control.timeout, config.run)
        collectives = Collectives(world, config.control.timeout)
        collectives.run_on_main(run.lock)
    except RuntimeError as error:
        if not _lost(error, world):
            raise
        cause = (
            f"the {world.size} ranks did not all come within {config.control.timeout} s: "
            f"{_first_sentence(error)}"
        )
        if world.is_main:
            with suppress(UserError):  # of a live job, which is not the one that failed
                run.lock()
                _record(run, world, cause)
        raise WorkError(cause) from None
    heartbeat = Heartbeat(run.path / layout.HEARTBEATS, world)
    stop.patience = lambda: PATIENCE.get(heartbeat.doing)
    try:
        collectives.check_same(manifest.digest, f"{manifest.directory}/manifest.json")
        check_shared_memory(config, manifest, collectives)
        if config.train.precision == "auto":
            config = with_precision(config, _precision(run.path, accelerator.device, collectives))
        return Trainer(config, manifest, world, run, accelerator, collectives, stop, heartbeat).run()
    except (UserError, WorkError) as error:
        heartbeat.end(str(error))
        if world.is_main or not isinstance(error, UserError | AgreedError):
            _record(run, world, str(error))
        raise
    except Exception as error:
        if _lost(error, world):
            cause = f"{LOST}: {heartbeat.lost()} ({_first_sentence(error)})"
            if not run.failed():  # the rank that knows more has been first
                _record(run, world, cause)
            raise WorkError(cause) from None
        cause = f"{type(error).__name__}: {error}"
        heartbeat.end(cause)
        _record(run, world, cause)
        if DIED in cause:  # torch raises this wherever the rank is at that instant
            raise WorkError(cause) from None
        raise


def _precision(run: Path, device: torch.device, collectives: Collectives) -> str:
    """What `train.precision: auto` is, by rank 0 for all: as the run began, or else what suits its device."""
    precision = ""
    if collectives.world.is_main:
        path, _ = checkpoint.newest(run)
        begun = checkpoint.read_state(path).settings.get("train.precision") if path else None
        precision = begun or automatic(device)
    return collectives.broadcast(precision)


def _lost(error: Exception, world: World) -> bool:
    """Whether this is what a rank gets when another is gone, or does not come."""
    return world.size > 1 and ("gloo" in str(error).lower() or isinstance(error, distributed.DistError))


def _first_sentence(error: Exception) -> str:
    """Without the line of torch's sources that it begins with."""
    return re.sub(r"^\[[^]]*\] *", "", str(error).splitlines()[0]).partition(". ")[0]


def _record(run: RunDirectory, world: World, cause: str) -> None:
    with suppress(OSError, WorkError):  # on a full disk the line on stderr must do
        run.fail(world.rank, cause)
