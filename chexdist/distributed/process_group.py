"""Starts the process group of the launcher's world, on devices that all ranks agree on, and Accelerate, which
takes both and holds the tracker.
"""

import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import distributed

from chexdist.config.tree import Run
from chexdist.distributed.devices import Device, refusal, use
from chexdist.distributed.world import VARIABLES, World
from chexdist.errors import UserError

UNTRACKED = Run()
SECONDS_TO_SAY = 5
"""Waited beyond the store's own timeout, so that its message, which says more, comes first."""
NCCL_WAITS_LONGER = 60
"""Seconds after `control.timeout`. NCCL's watchdog ends a process without a message; so the group of the
control collectives times out first, says why, and the ranks that are stuck in NCCL end by its mark
(`heartbeat.known_within`)."""
SECONDS_UNSAID = 5
"""How long other ranks are waited for before a line says so; three times that on all but rank 0."""


def make_accelerator(world: World, timeout_seconds: int, run: Run = UNTRACKED) -> Accelerator:
    """Accelerate's device, process group and tracker; waits for all ranks.

    Raises:
        UserError: on all ranks, the devices are refused, see `devices.refusal`; Accelerate sees another world
            than the launcher described, or it is not described whole.
        RuntimeError: not all ranks joined within `timeout_seconds`, or the store has not answered by then.
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
    mine, timeout = Device.here(world, os.environ), timedelta(seconds=timeout_seconds)
    with _saying_what_is_waited_for(world, timeout_seconds):
        if world.size == 1:
            _refuse([mine])
        elif not distributed.is_initialized():
            _within(timeout_seconds + SECONDS_TO_SAY, lambda: _form_group(world, mine, timeout))
        use(mine.device, world)
        accelerator = Accelerator(
            cpu=mine.device == "cpu",
            mixed_precision="no",  # in place of what variables say, as the next: the step sets its precision
            dynamo_backend="no",
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timeout),
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


def leave(code: int) -> None:
    """End this process at once if it is a rank of several; else return.

    A thread of gloo may hold a tensor of the last collective for a moment longer. To let go of it while the
    interpreter is being torn down aborts the process, though all is done and saved (pytorch#179291).
    """
    if distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _form_group(world: World, mine: Device, timeout: timedelta) -> None:
    """All ranks' devices, through the store alone: a rank without a GPU can't be in a group of NCCL."""
    store, _, _ = next(distributed.rendezvous("env://", world.rank, world.size, timeout=timeout))
    store.set_timeout(timeout)
    store.set(f"device/{world.rank}", json.dumps(mine.to_dict()))
    if world.is_main:
        found = [text.decode() for text in store.multi_get([f"device/{rank}" for rank in range(world.size)])]
        store.set("devices", "[" + ",".join(found) + "]")
    devices = [Device(**each) for each in json.loads(store.get("devices"))]
    try:
        _refuse(devices)
    except UserError:
        if store.add("refused", 1) == world.size:
            store.set("all refused", "")
        if world.is_main:  # with it goes the store
            store.wait(["all refused"])
        raise
    on_cpu = mine.device == "cpu"
    distributed.init_process_group(
        "gloo" if on_cpu else "nccl",
        store=distributed.PrefixStore("default_pg", store),
        rank=world.rank,
        world_size=world.size,
        timeout=timeout if on_cpu else timeout + timedelta(seconds=NCCL_WAITS_LONGER),
    )


def _within(seconds: float, action: Callable[[], None]) -> None:
    """Wait for the action at most so long. The store's own timeout does not suffice: once it is over, the
    client (`TCPStore::doWait` of torch 2) notifies the server, and waits for the answer over a link that may
    be cut.

    Raises:
        RuntimeError: it is not over; else what the action raises.
    """
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  the waiting thread raises it
            raised.append(error)

    acting = threading.Thread(target=act, name="rendezvous", daemon=True)
    acting.start()
    acting.join(seconds)
    if raised:
        raise raised[0]
    if acting.is_alive():
        raise distributed.DistStoreError(f"time out: rank 0's store does not answer, {seconds:.0f} s")


def _refuse(devices: list[Device]) -> None:
    if refused := refusal(devices):
        raise UserError(refused)


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
