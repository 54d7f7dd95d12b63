"""Trains a few batches on one rank through the production path, and returns what the promises are about."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chexdist.data.loader import batches, to_unit_range
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.run import checkpoint
from chexdist.training.networks import Gan
from chexdist.training.step import Step
from helpers.cases import BATCH, Case

MID_TRAINING = 1
"""Batches after which Adam no longer divides a gradient by itself; in the next one every phase is due."""

Arrays = dict[str, np.ndarray]
Draws = dict[tuple[str, int], list[tuple[range, np.ndarray]]]


@dataclass(frozen=True)
class Update:
    """What Adam computes its step of one parameter from: the gradient, clipped, and the state before."""

    weight: np.ndarray
    gradient: np.ndarray
    exp_avg: np.ndarray
    exp_avg_sq: np.ndarray
    steps: int
    lr: float
    betas: tuple[float, float]
    eps: float


@dataclass
class Trained:
    """What one rank saw; `gradients`, `updates` and `weights` are empty but on rank 0.

    `gradients`: of each network's first update, as reduced. `weights`: of both networks and the averaged
    generator at the end; `digest`: their SHA-256. `decay`: the average's in the last step. `losses`: sums
    over this rank's images. `draws`: rows and random numbers by (draw, batch). `updates`: what Adam was given
    in a step from a checkpoint.
    """

    gradients: Arrays
    weights: Arrays
    digest: str
    decay: float
    losses: np.ndarray
    draws: Draws
    updates: dict[str, Update] = field(default_factory=dict)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Production code computes in torch's default dtype; this sets it for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def train_cases(world: World, shards: Path, jobs: list[tuple[Case, int, str]]) -> list[Trained]:
    """Train each (case, accumulation, dtype) for its batches; a job for `run_world`."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    results = []
    for case, accumulate, dtype in jobs:
        with default_dtype(getattr(torch, dtype)):
            results.append(train_case(world, shards, reader, accelerator, case, accumulate))
    return results


def save_in_mid_training(world: World, shards: Path, cases: list[Case], folder: Path) -> None:
    """A float32 checkpoint of each case after `MID_TRAINING` batches, in `folder`; a job for a world of one.

    Critics are clipped in the step that is compared only: one that lives within the narrow bounds of the
    tests gives all images one score, so that real and generated ones' gradients cancel to rounding.
    """
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    with default_dtype(torch.float32):
        for case in cases:
            step, data = start(world, shards, reader, accelerator, case.unclipped(), 1)
            for t in range(MID_TRAINING):
                step(t, *next(data))
            state = checkpoint.State(MID_TRAINING, MID_TRAINING * BATCH, {}, "", {}, {})
            checkpoint.save(folder / case.name, checkpoint.snapshot(step.gan.state()), state)


def step_in_mid_training(
    world: World, shards: Path, jobs: list[tuple[Case, int]], folder: Path
) -> list[Trained]:
    """One step in float32 of each (case, accumulation) from its checkpoint; a job for `run_world`."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    with default_dtype(torch.float32):
        return [step_case(world, shards, reader, accelerator, *job, folder) for job in jobs]


def step_case(
    world: World,
    shards: Path,
    reader: SampleReader,
    accelerator: Any,
    case: Case,
    accumulate: int,
    folder: Path,
) -> Trained:
    """One step of the case from its checkpoint in `folder`."""
    step, data = start(world, shards, reader, accelerator, case, accumulate, MID_TRAINING)
    path, _ = checkpoint.newest(folder / case.name)
    assert path is not None
    checkpoint.load(path, step.gan.state())
    updates = _record_updates(step)
    trained = _trained(world, step, data, range(MID_TRAINING, MID_TRAINING + 1))
    trained.updates = updates if world.is_main else {}
    return trained


def start(
    world: World,
    shards: Path,
    reader: SampleReader,
    accelerator: Any,
    case: Case,
    accumulate: int,
    first: int = 0,
) -> tuple[Step, Iterator[tuple[Tensor, Tensor]]]:
    """What the trainer makes before its loop: networks, a step that is warmed up, and images with labels."""
    config, manifest = case.config(accumulate), read_manifest(str(shards))
    gan = Gan(config, manifest.class_counts("train"), accelerator)
    _open(gan)
    step = Step(gan, world)
    step.warm_up()
    data = batches(
        reader,
        seed=config.train.seed,
        window=config.data.window,
        batch=config.train.batch,
        share=step.share,
        first=first,
        workers=0,
    )
    device = gan.device
    return step, (
        (to_unit_range(pixels.to(device), manifest.bits, step.dtype), labels.to(device))
        for pixels, labels in data
    )


def _open(gan: Gan) -> None:
    """Where convolutions begin at 0, give them and the biases other values, the same on all ranks.

    At 0, a convolution hides from the gradient whatever is before it. A bias is then of the size of Adam's
    first step, of which an element whose true gradient is 0 is rounding divided by Adam's eps. And a critic
    that is nearly linear has the same gradient at real and at generated images, of which the difference is
    trained: rounding is small beside it only where the two are unlike.
    """
    draw = torch.Generator().manual_seed(0)
    for network, scale in ((gan.critic, 0.2), (gan.generator, 0.5)):
        zero = [parameter for parameter in network.parameters() if not parameter.any()]
        for parameter in zero if any(parameter.dim() > 1 for parameter in zero) else ():
            drawn = torch.empty_like(parameter, device="cpu")  # the same on any device
            nn.init.normal_(drawn, 0.0, scale if parameter.dim() > 1 else 0.3, draw)
            parameter.data.copy_(drawn)
    gan.ema.load_state_dict(gan.generator.state_dict())


def train_case(
    world: World, shards: Path, reader: SampleReader, accelerator: Any, case: Case, accumulate: int
) -> Trained:
    """One training of `case.batches` batches."""
    step, data = start(world, shards, reader, accelerator, case, accumulate)
    return _trained(world, step, data, range(case.batches))


def _trained(world: World, step: Step, data: Iterator[tuple[Tensor, Tensor]], steps: range) -> Trained:
    gan = step.gan
    gradients, draws = _record_gradients(step), _record_draws(step)
    for t in steps:
        step(t, *next(data))
    weights = {
        f"{name}.{key}": parameter.detach().numpy(force=True).copy()
        for name, network in (("critic", gan.critic), ("generator", gan.generator), ("ema", gan.ema))
        for key, parameter in network.named_parameters()
    }
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in weights.values())).hexdigest()
    losses = torch.stack([step.losses.critic, step.losses.penalty, step.losses.generator]).numpy(force=True)
    if not world.is_main:
        gradients, weights = {}, {}
    return Trained(gradients, weights, digest, step.values.ema_decay, losses, draws)


def _gradients(network: nn.Module, name: str) -> Arrays:
    found = {}
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name}.{key} has no gradient"
        found[f"{name}.{key}"] = parameter.grad.numpy(force=True).copy()
    return found


def _record_gradients(step: Step) -> Arrays:
    """Each network's gradients as they come to its first update."""
    seen: Arrays = {}
    update = step.update

    def recording(network: nn.Module, optimizer: torch.optim.Adam, lr: float) -> None:
        name = "critic" if network is step.gan.critic else "generator"
        for key, gradient in _gradients(network, name).items():
            seen.setdefault(key, gradient)
        update(network, optimizer, lr)

    step.update = recording  # type: ignore[method-assign]
    return seen


def _record_updates(step: Step) -> dict[str, Update]:
    """What each optimizer is given in its only step from now on."""
    seen: dict[str, Update] = {}

    def record(network: nn.Module, name: str) -> Callable[..., None]:
        def recording(optimizer: torch.optim.Optimizer, *_: object) -> None:
            (settings,) = optimizer.param_groups
            for key, parameter in network.named_parameters():
                assert f"{name}.{key}" not in seen and parameter.grad is not None
                state = optimizer.state[parameter]
                tensors = (parameter.detach(), parameter.grad, state["exp_avg"], state["exp_avg_sq"])
                arrays = [tensor.numpy(force=True).copy() for tensor in tensors]
                rest = (int(state["step"]), settings["lr"], settings["betas"], settings["eps"])
                seen[f"{name}.{key}"] = Update(*arrays, *rest)

        return recording

    step.gan.critic_optimizer.register_step_pre_hook(record(step.gan.critic, "critic"))
    step.gan.generator_optimizer.register_step_pre_hook(record(step.gan.generator, "generator"))
    return seen


def _record_draws(step: Step) -> Draws:
    """Every random number that the step takes, with the global-batch indices that it is for."""
    seen: Draws = {}

    def record(draw_numbers: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def recording(draw: Any, t: int, part: range, *rest: Any) -> Tensor:
            drawn = draw_numbers(draw, t, part, *rest)
            seen.setdefault((draw.name, t), []).append((part, drawn.numpy(force=True).copy()))
            return drawn

        return recording

    for name in ("normal", "uniform", "labels"):
        setattr(step, name, record(getattr(step, name)))
    return seen
