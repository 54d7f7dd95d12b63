"""Trains through the production loop and notes when the host waits for the device.

On a GPU, torch itself raises where it would wait (`set_sync_debug_mode`). Where there is none, tensors are on
`meta`, a device without data: what would read a value raises there, and copies that would be waited for, and
tensors of two devices in one operation, are noted.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.optim import optimizer
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from chexdist.config.load import load_config
from chexdist.data.manifest import read_manifest
from chexdist.distributed.collectives import Collectives, Pending
from chexdist.distributed.heartbeat import Heartbeat
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.stop_request import StopRequest
from chexdist.distributed.world import World
from chexdist.run.directory import RunDirectory
from chexdist.training.progress_line import TrainingProgress
from chexdist.training.trainer import Trainer

META = torch.device("meta")


@dataclass
class Waits:
    """Numbers of the batches after which sums were asked for, and what the host waited for beside them."""

    asked: list[int] = field(default_factory=list)
    steps: int = 0
    beside: list[str] = field(default_factory=list)


class _Copies(TorchDispatchMode):
    """Notes copies between the CPU and the device that are waited for."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        leaves = [each for each in _pytree.tree_leaves((args, kwargs, made)) if isinstance(each, Tensor)]
        # a number on the CPU goes with the operation's launch
        devices = {each.device.type for each in leaves if each.dim()}
        if len(devices) > 1:
            copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            not_waited = (kwargs or {}).get("non_blocking") or (func is copies[1] and args[2:] == (True,))
            if func not in copies or not not_waited:
                self._waits.beside.append(str(func))
        return made


class _Zeros:
    """The sums of a device without data."""

    def __init__(self, count: int) -> None:
        self._count = count

    def result(self) -> Tensor:
        return torch.zeros(self._count, dtype=torch.float64)


def train_watched(world: World, shards: Path, run: Path, name: str, more: list[str]) -> Waits:
    """Every batch of a shipped configuration, without evaluations and saves; a job for a world of one."""
    config = load_config(name, ["--data.shards", str(shards), "--run.dir", str(run), *more])
    accelerator: Any = make_accelerator(world, timeout_seconds=60)
    device = accelerator.device if accelerator.device.type == "cuda" else META
    if device is META:
        accelerator = SimpleNamespace(
            device=META, prepare_model=lambda network: network, trackers=[], log=lambda *_, **__: None
        )
        supported = optimizer._get_fused_kernels_supported_devices()
        setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [*supported, "meta"])  # noqa: B010
    waits, collectives = Waits(), Collectives(world, 60)
    directory = RunDirectory(run)
    directory.lock()
    heartbeat = Heartbeat(run / "heartbeats", world, "0")
    trainer: Any = Trainer(
        *(config, read_manifest(str(shards)), world, directory),
        *(accelerator, collectives, StopRequest(prints=False), heartbeat),
    )
    if device is META:
        trainer.step.precision = nullcontext  # autocast does not know it
    _watch(trainer, waits)
    trainer.step.warm_up()
    trainer.vote.warmed_up(0.0)
    trainer.loop(0, trainer.data(0), TrainingProgress(config.train.images, 0))
    return waits


def _watch(trainer: Any, waits: Waits) -> None:
    train_batch, sum_losses = trainer.train_batch, trainer.sum_losses
    begin = trainer.collectives.all_reduce_async

    def trained(*given: Any) -> bool:
        waits.steps += 1
        with _no_waiting(trainer.device, waits):
            return bool(train_batch(*given))

    def summed(t: int) -> Any:
        waits.asked.append(t)
        with _no_waiting(trainer.device, waits):
            return sum_losses(t)

    def begun(values: Tensor) -> Pending | _Zeros:
        return _Zeros(len(values)) if values.is_meta else begin(values)

    trainer.train_batch, trainer.sum_losses = trained, summed
    trainer.collectives.all_reduce_async = begun
    trainer.evaluate = lambda *_: False
    trainer.save = lambda *_, **__: None


@contextmanager
def _no_waiting(device: torch.device, waits: Waits) -> Iterator[None]:
    if device.type != "cuda":
        with _Copies(waits):
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
