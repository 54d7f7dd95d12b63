"""One start of a run on one rank: process group, lock and heartbeat, then the trainer; and what is reported
of a failure.
"""

import os
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event

import torch

from chexdist.config.tree import Config
from chexdist.data.loader import DIED
from chexdist.data.manifest import Manifest
from chexdist.distributed.backend import (
    first_all_reduce,
    is_of_backend,
    not_set_up,
    own_reason,
    place,
    reason,
)
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.heartbeat import LOST, STOPPED, Heartbeat
from chexdist.distributed.open_files import raise_limit
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.stop_request import SECONDS_TO_LEAVE, StopRequest
from chexdist.distributed.world import World
from chexdist.errors import EXIT_STOPPED_EARLY, AgreedError, UserError, WorkError
from chexdist.run import checkpoint, layout
from chexdist.run.directory import RunDirectory
from chexdist.training.cpus import cpu_shortage
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
    raise_limit(world.size)
    stop = StopRequest(world.is_main, asked)
    run = RunDirectory(Path(config.run.dir))
    run.writer.timeout = config.control.timeout
    stop.leave = run.stopped
    try:
        accelerator = make_accelerator(world, config.control.timeout, config.run)
        collectives = Collectives(world, config.control.timeout)
        collectives.run_on_main(run.lock)
        start = collectives.broadcast(str(time.time_ns()))
    except UserError as error:
        _record_first(run, world, str(error))
        raise
    except RuntimeError as error:
        if not is_of_backend(error, world):
            raise
        cause = _no_rendezvous(error, world, config.control.timeout)
        _record_first(run, world, cause)
        raise WorkError(cause) from None
    heartbeat = Heartbeat(run.path / layout.HEARTBEATS, world, start)
    stop.patience = lambda: PATIENCE.get(heartbeat.doing)
    stop.leave = lambda: _leave(run, heartbeat)
    heartbeat.left_behind = lambda: _end_with_others(run, world, heartbeat)
    works = False
    try:
        first_all_reduce(collectives, accelerator.device)
        works = True
        collectives.check_same(manifest.digest, f"{manifest.directory}/manifest.json")
        check_shared_memory(config, manifest, collectives)
        short = cpu_shortage(config, accelerator.device, collectives)
        if short and world.is_main:
            print(f"chexdist: {short}", flush=True)
        if config.train.precision == "auto":
            config = with_precision(config, _precision(run.path, accelerator.device, collectives))
        with run.writer:
            return Trainer(config, manifest, world, run, accelerator, collectives, stop, heartbeat).run()
    except (UserError, WorkError) as error:
        heartbeat.end(str(error))
        if world.is_main or not isinstance(error, UserError | AgreedError):
            _record(run, world, str(error))
        raise
    except Exception as error:
        if is_of_backend(error, world):
            reported = f"{place(world, accelerator.device)} reports: {reason(error)}"
            own = bool(own_reason(error))
            others = heartbeat.lost(reported if own else "")
            cause = (
                f"{LOST}: {others}; the group was lost, {reported}"
                if works
                else f"{not_set_up(world)}: {reported}; {others}"
            )
            return _lost(run, world, heartbeat, cause, own)
        cause = f"{type(error).__name__}: {error}"
        heartbeat.end(cause)
        _record(run, world, cause)
        if DIED in cause:  # torch raises this wherever the rank is at that instant
            raise WorkError(cause) from None
        raise


def _lost(run: RunDirectory, world: World, heartbeat: Heartbeat, cause: str, own: bool) -> int:
    """Leave since others have: the exit code where they were asked to stop, else a WorkError. `own`: the
    cause is the backend's own reason, which says more than other ranks can.
    """
    if stopped := heartbeat.stopped():
        run.stopped()
        print(f"chexdist: {stopped} was asked to stop; the same command resumes", file=sys.stderr)
        return EXIT_STOPPED_EARLY
    if own or heartbeat.reports and not run.failed():  # else another rank says more
        _record(run, world, cause)
    raise WorkError(cause) from None


def _end_with_others(run: RunDirectory, world: World, heartbeat: Heartbeat) -> None:
    """End this process, whose main thread waits for a rank that waits for another, and so on, to one that is
    gone.
    """
    try:
        code = _lost(run, world, heartbeat, f"{LOST}: {heartbeat.lost()}", own=False)
    except WorkError as error:
        code = error.exit_code
        print(f"chexdist{f', rank {world.rank}' if world.rank else ''}: {error}", file=sys.stderr)
    run.writer.close(SECONDS_TO_LEAVE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave(run: RunDirectory, heartbeat: Heartbeat) -> None:
    """Report that this rank was asked to stop: to the others, then in the status and the log."""
    heartbeat.end(STOPPED)
    run.stopped()
    run.writer.close(SECONDS_TO_LEAVE)


def _precision(run: Path, device: torch.device, collectives: Collectives) -> str:
    """What `train.precision: auto` is, by rank 0 for all: as the run began, or else what suits its device."""

    def chosen() -> str:
        path, _ = checkpoint.newest(run)
        begun = checkpoint.read_state(path).settings.get("train.precision") if path else None
        return begun or automatic(device)

    return collectives.from_main(chosen)


def _no_rendezvous(error: Exception, world: World, timeout: int) -> str:
    """Why there is no group of ranks at all."""
    said = reason(error)
    if world.size == 1:
        return f"the launcher did not answer within {timeout} s: {said}"
    if re.search("time[d ]*out|failed to connect", said, re.IGNORECASE):  # tried until then
        said = f"the {world.size} ranks did not all join within {timeout} s: {said}"
    where = f"rank {world.rank} on {platform.node()}"
    return f"{where}: {not_set_up(world)}: {said}"


def _record_first(run: RunDirectory, world: World, cause: str) -> None:
    """What ended the start before this run directory was locked."""
    if world.is_main:
        with suppress(UserError):  # of a live job, which is not the one that failed
            run.lock()
            _record(run, world, cause)


def _record(run: RunDirectory, world: World, cause: str) -> None:
    with suppress(OSError, WorkError):  # on a full disk the line on stderr must do
        run.fail(world.rank, cause)
