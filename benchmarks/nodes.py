"""Starts a job on nodes of one process each, as a launcher would, kills what hangs, and says how it ended.

Processes are forked from a server that has imported what they need and done nothing else, which saves each
some seconds.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from benchmarks.tally import written

PRELOAD = ["torch._dynamo", "torchvision.utils", "accelerate", "webdataset", "chexdist.training.trainer"]
POLL = 0.05  # seconds
ON_CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

Job = Callable[[int, Path, int | None], None]
"""What a rank does: (rank, folder of this start, batch to be killed in). Raises or exits non-zero to fail."""


@dataclass(frozen=True)
class Patience:
    """Seconds after which a start counts as hung: before its first batch; between two or after the last."""

    first: float = 120.0
    next: float = 30.0


def start(job: Job, nodes: int, folder: Path, kill_at: int | None, patience: Patience) -> str:
    """Run `job` on every node. Returns done, killed (at batch `kill_at`), hung or failed; ends all processes.

    All that is printed goes to `folder/log`.
    """
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    port = free_port()
    ranks: list[BaseProcess] = []
    process: BaseProcess
    try:
        for rank in range(nodes):
            process = context.Process(target=_rank, args=(job, rank, nodes, port, folder, kill_at))
            with patch.dict(os.environ, ON_CPU):  # the first one starts the server, which imports torch
                process.start()
            ranks.append(process)
        return _wait(ranks, folder, patience)
    finally:
        for process in ranks:
            if process.pid and process.exitcode != 0:
                process.kill()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its loader processes
            process.join()


def _wait(ranks: list[BaseProcess], folder: Path, patience: Patience) -> str:
    seen, since = 0, time.monotonic()
    while True:
        codes = [process.exitcode for process in ranks]
        if -signal.SIGKILL in codes:
            return "killed"
        if any(codes):
            return "failed"
        if None not in codes:
            return "done"
        if (size := written(folder)) != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > (patience.next if seen else patience.first):
            return "hung"
        time.sleep(POLL)


def _rank(job: Job, rank: int, nodes: int, port: int, folder: Path, kill_at: int | None) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # Linux's own, which a forked process has not
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    join_world(rank, nodes, port)
    job(rank, folder, kill_at)
    sys.stdout.flush()


def join_world(rank: int, nodes: int, port: int) -> None:
    """Set what a launcher of `nodes` nodes with one process each would set, for one thread on the CPU."""
    os.environ.update(ON_CPU)
    if nodes > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(nodes), GROUP_RANK=str(rank))
        os.environ.update(
            LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
    import torch

    torch.set_num_threads(1)


def free_port() -> int:
    """One on which nothing listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
