"""Processes that train at an order, one thread each: a world of DDP ranks, or as many trainings that share
nothing.
"""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, distributed, nn

from benchmarks.nodes import ON_CPU, PRELOAD, free_port, join_world
from benchmarks.phases import ALL_REDUCE, Clock, count_all_reduces, watched
from benchmarks.step import ALONE, Ours
from chexdist.config.tree import Config
from chexdist.distributed.world import World
from chexdist.errors import WorkError

Jobs = dict[Any, Config]
"""What the processes train, by name; `train.batch` is that of their world."""


class Traffic(NamedTuple):
    """What a step sums over the ranks: in so many all-reduces, of so many bytes in all."""

    calls: int
    size: int


class Processes:
    """`count` processes: ranks of one world where `joined`, else a world each."""

    def __init__(self, count: int, joined: bool, jobs: Jobs, pixels: Tensor) -> None:
        context, port = multiprocessing.get_context("forkserver"), free_port()
        context.set_forkserver_preload(PRELOAD)
        self.started: list[BaseProcess] = []
        self.connections: list[Connection] = []
        for rank in range(count):
            ours, theirs = context.Pipe()
            size = count if joined else 1
            process = context.Process(
                target=_serve, args=(theirs, rank, size, port, jobs, pixels), daemon=True
            )
            with patch.dict(os.environ, ON_CPU):  # the first one starts the server, which imports torch
                process.start()
            theirs.close()
            self.started.append(process)
            self.connections.append(ours)

    def wait(self) -> None:
        """Until all are ready.

        Raises:
            WorkError: a process died.
        """
        _answers(self.connections)

    def ask(self, count: int, order: str, *about: Any) -> list[Any]:
        """What the first `count` answer to an order, a method of `_Rank`, that they carry out at once.

        Raises:
            WorkError: a process died.
        """
        asked = self.connections[:count]
        for process in asked:
            process.send((order, about))
        return _answers(asked)

    def kill(self) -> None:
        """End all."""
        for process in self.started:
            process.kill()
            process.join()


def _answers(connections: list[Connection]) -> list[Any]:
    try:
        return [connection.recv() for connection in connections]
    except EOFError:
        raise WorkError("a process that trained has died; its error is above") from None


class _Rank:
    def __init__(self, world: World, jobs: Jobs, pixels: Tensor) -> None:
        self.trainings = {name: Ours(config, pixels, world=world) for name, config in jobs.items()}
        self.clocks: dict[Any, Clock] = {}

    def train(self, name: Any, batches: int) -> float:
        """Seconds of so many batches."""
        start = time.perf_counter()
        for _ in range(batches):
            self.trainings[name].train()
        return time.perf_counter() - start

    def sum_up(self, size: int, times: int) -> float:
        """Seconds of so many all-reduces of `size` bytes, one after the other."""
        values = torch.zeros(size // 4)
        distributed.barrier()
        start = time.perf_counter()
        for _ in range(times):
            distributed.all_reduce(values)
        return time.perf_counter() - start

    def all_reduces(self, name: Any) -> float:
        """Seconds of a batch in its all-reduces, over a period; they no longer overlap the backward pass."""
        training = self.trainings[name]
        if name not in self.clocks:
            self.clocks[name] = Clock(on_gpu=False)
            count_all_reduces(training, self.clocks[name])
        with watched(training, self.clocks[name]):
            for _ in range(training.period):
                training.train()
        return self.clocks[name].take()[ALL_REDUCE] / training.period

    def traffic(self, name: Any) -> Traffic:
        """Of a training that has trained some batches: DDP cuts gradients into buckets, an all-reduce
        each.
        """
        gan = self.trainings[name].gan
        buckets = [*_buckets(gan.ddp_critic), *_buckets(gan.ddp_generator)]
        return Traffic(len(buckets), sum(buckets))


def _buckets(network: nn.Module) -> list[int]:
    said = network._get_ddp_logging_data()  # type: ignore[operator]
    sizes = said.get("rebuilt_bucket_sizes") or said["bucket_sizes"]
    return [int(size) for size in sizes.split(", ")]


def _serve(orders: Connection, rank: int, size: int, port: int, jobs: Jobs, pixels: Tensor) -> None:
    join_world(rank, size, port)
    worker = _Rank(World(rank, size, rank, 0) if size > 1 else ALONE, jobs, pixels)
    orders.send("ready")
    while True:
        order, about = orders.recv()
        orders.send(getattr(worker, order)(*about))
