"""Starts worlds of real processes over gloo on the CPU, and names the rank that failed, died or hung.

Each rank is a process of its own, forked from a server that has imported torch but has started no thread,
which saves every rank the seconds of that import. The environment is the one that a launcher makes.
"""

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from helpers.jobs import LATE_IMPORTS, free_port

SECONDS_TO_DUMP = 1.0
DUMP_STACK = signal.SIGUSR2
"""The signal upon which a rank writes where it is."""


class WorldFailed(Exception):
    """A rank raised, died or did not come back; the text names it."""


def run_world(size: int, job: Callable[..., Any], *arguments: Any, limit: float = 480) -> list[Any]:
    """`job(world, *arguments)` on every rank of a world; its results in rank order.

    Args:
        size: number of ranks; a world of one has no process group and none of a launcher's variables.
        job: a function at the top level of a module; what it returns must be picklable.
        limit: seconds after which ranks that have not answered count as hung.

    Raises:
        WorldFailed: naming the first rank that failed, or the ranks that hung and the line where each waits.
    """
    server = _server()
    with tempfile.TemporaryDirectory() as stacks:
        port = free_port()
        ranks: dict[Connection, int] = {}
        processes: list[BaseProcess] = []
        process: BaseProcess
        for rank in range(size):
            ours, theirs = server.Pipe(duplex=False)
            process = server.Process(target=_rank, args=(theirs, rank, size, port, stacks, job, arguments))
            process.start()
            theirs.close()
            ranks[ours] = rank
            processes.append(process)
        try:
            return _collect(ranks, processes, Path(stacks), limit)
        finally:
            for process in processes:
                process.kill()
                process.join()


def run_worlds(job: Callable[..., Any], worlds: dict[int, tuple[Any, ...]]) -> dict[int, list[Any]]:
    """`run_world` for each (size, arguments) at once: ranks that wait leave the cores to other worlds."""
    _server()
    with ThreadPoolExecutor(len(worlds)) as pool:
        running = {size: pool.submit(run_world, size, job, *given) for size, given in worlds.items()}
    return {size: world.result() for size, world in running.items()}


def _collect(
    ranks: dict[Connection, int], processes: list[BaseProcess], stacks: Path, limit: float
) -> list[Any]:
    results: dict[int, Any] = {}
    end = time.monotonic() + limit
    while len(results) < len(ranks):
        waiting = [connection for connection, rank in ranks.items() if rank not in results]
        ready = wait(waiting, timeout=max(0.0, end - time.monotonic()))
        if not ready:
            raise WorldFailed(_hung([ranks[connection] for connection in waiting], processes, stacks, limit))
        for connection in ready:
            assert isinstance(connection, Connection)
            rank = ranks[connection]
            try:
                outcome, value = connection.recv()
            except EOFError:
                processes[rank].join(5)
                raise WorldFailed(f"rank {rank} died with code {processes[rank].exitcode}") from None
            if outcome == "raised":
                raise WorldFailed(f"rank {rank} of {len(ranks)} raised:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(len(ranks))]


def _hung(waiting: list[int], processes: list[BaseProcess], stacks: Path, limit: float) -> str:
    lines = [f"after {limit:.0f} s no answer from rank {', '.join(map(str, waiting))}"]
    for rank in waiting:
        if processes[rank].exitcode is None:
            os.kill(processes[rank].pid or 0, DUMP_STACK)
    time.sleep(SECONDS_TO_DUMP)
    for rank in waiting:
        stack = stacks / str(rank)
        lines.append(f"rank {rank}: {stack.read_text() if stack.exists() else 'had not started'}")
    return "\n".join(lines)


@cache
def _server() -> ForkServerContext:
    """The server, ready: the time limit of a world is not spent on its imports."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["chexdist.training.trainer", *LATE_IMPORTS])
    first = server.Process(target=int)
    first.start()
    first.join()
    return server


def _rank(
    connection: Connection,
    rank: int,
    size: int,
    port: int,
    stacks: str,
    job: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch
    from torch import distributed

    from chexdist.distributed.world import World

    if size > 1:
        os.environ.update(
            {
                "RANK": f"{rank}",
                "LOCAL_RANK": f"{rank}",
                "WORLD_SIZE": f"{size}",
                "LOCAL_WORLD_SIZE": f"{size}",
            }
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
        )
    torch.set_num_threads(1)
    with (Path(stacks) / str(rank)).open("w") as stack:
        faulthandler.register(DUMP_STACK, stack, all_threads=False)
        try:
            connection.send(("done", job(World.detect(), *arguments)))
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must know
            connection.send(("raised", traceback.format_exc()))
        finally:
            faulthandler.unregister(DUMP_STACK)
    if distributed.is_initialized():
        distributed.destroy_process_group()
