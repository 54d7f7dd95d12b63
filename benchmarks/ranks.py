"""`ranks`: images/s of two DDP ranks against two independent trainings, one thread each.

The difference is the all-reduce of gradients over gloo, and waiting for the slower of the two.
"""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from torch import Tensor

from benchmarks.alternate import Comparison, Effort, Side, alternate
from benchmarks.nodes import free_port, join_world
from benchmarks.record import Result
from benchmarks.step import ALONE, SHIPPED, Ours, Setting, configuration, draw_pixels, timed
from chexdist.config.tree import Config
from chexdist.distributed.world import World
from chexdist.errors import WorkError

GANS = ("dcgan", "wgan-gp")
RANKS = 2
NOTES = (
    "Both sides are two processes, each with one thread and as many images in a batch. DDP's are one "
    + "training, over gloo on one machine; the others sum nothing up. A period counts when the slower "
    + "process has ended it.",
)


def measure(effort: Effort, setting: Setting = SHIPPED) -> Result:
    """All rows of `ranks`; `setting.batch` is a rank's.

    Raises:
        WorkError: a process died.
    """
    rates: dict[str, list[float]] = {}
    for name in GANS:
        alone = configuration(name, setting)
        wider = {"train.batch": RANKS * setting.batch, "penalty.every": RANKS * alone.penalty.every}
        words = [word for key, value in wider.items() for word in (f"--{key}", str(value))]
        joint = configuration(name, setting, *words)
        pixels = draw_pixels(alone.model.size)
        with (
            _processes(joint, RANKS, pixels) as ddp,
            _processes(alone, 1, pixels) as free,
        ):
            periods = {int(_answer(processes)) for processes in (ddp, free)}
            if len(periods) > 1:
                raise WorkError(f"{name}: the sides do not do the same work: periods of {periods} batches")
            items = RANKS * setting.batch * periods.pop()
            sides = [
                Side(f"{name} DDP", items, lambda ddp=ddp: _run(ddp)),  # type: ignore[misc]
                Side(f"{name} apart", items, lambda free=free: _run(free)),  # type: ignore[misc]
            ]
            rates |= alternate(f"ranks, {name}", sides, effort)
    model = configuration("dcgan", setting).model
    settings = {"ranks": RANKS, "batch of a rank": setting.batch, "size": model.size, "width": model.width}
    rows = [
        Comparison(f"{name}, {RANKS} ranks / {RANKS} apart", f"{name} DDP", f"{name} apart") for name in GANS
    ]
    return Result("ranks", "images/s", settings, NOTES, rows, rates)


@contextmanager
def _processes(config: Config, size: int, pixels: Tensor) -> Iterator[list[Connection]]:
    """A connection to each of two processes that train: as one world of `size` two, or as two of one."""
    context, port, connections, started = multiprocessing.get_context("spawn"), free_port(), [], []
    try:
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, rank, size, port, config, pixels), daemon=True
            )
            process.start()
            theirs.close()
            connections.append(ours)
            started.append(process)
        yield connections
    finally:
        for process in started:
            process.kill()
            process.join()


def _serve(orders: Connection, rank: int, size: int, port: int, config: Config, pixels: Tensor) -> None:
    """Say how many batches a period has, then train one at each order and say how long it took."""
    join_world(rank, size, port)
    world = World(rank, size, rank, 0) if size > 1 else ALONE
    training = Ours(config, pixels, world=world)
    orders.send(training.period)
    while True:
        orders.recv()
        orders.send(timed(training))


def _run(processes: list[Connection]) -> float:
    """A period of both; seconds until the slower one has ended it."""
    for process in processes:
        process.send("a period")
    return _answer(processes)


def _answer(processes: list[Connection]) -> float:
    try:
        return max(process.recv() for process in processes)
    except EOFError:
        raise WorkError("a process that trained has died; its error is above") from None
