"""Bugs that distributed GAN code really has, planted in the worker processes: each must make a check fail."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.gan.models.norms import GhostBatchNorm
from chexdist.training import step as step_module
from chexdist.training.networks import is_ddp
from chexdist.training.step import Step
from helpers.cases import Case
from helpers.training import Trained, default_dtype, step_case, train_case

Plant = Callable[[pytest.MonkeyPatch], None]


def _nothing(patch: pytest.MonkeyPatch) -> None:
    pass


def _batch_norm_over_share(patch: pytest.MonkeyPatch) -> None:
    def forward(self: GhostBatchNorm, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)

    patch.setattr(GhostBatchNorm, "forward", forward)


def _one_interpolation_weight(patch: pytest.MonkeyPatch) -> None:
    uniform = Step.uniform

    def first_row(self: Step, draw: Draw, t: int, part: range, width: int) -> Tensor:
        drawn = uniform(self, draw, t, part, width)
        return drawn[:1].expand_as(drawn) if draw is Draw.INTERPOLATION else drawn

    patch.setattr(Step, "uniform", first_row)


def _after_init(patch: pytest.MonkeyPatch, change: Callable[[Step], None]) -> None:
    init = Step.__init__

    def changed(self: Step, *arguments: Any) -> None:
        init(self, *arguments)
        change(self)

    patch.setattr(Step, "__init__", changed)


def _mean_of_means(patch: pytest.MonkeyPatch) -> None:
    _after_init(patch, lambda step: setattr(step, "scale", 1 / len(step.share)))


def _seed_of_rank(patch: pytest.MonkeyPatch) -> None:
    _after_init(patch, lambda step: setattr(step, "seed", step.seed + step.world.rank))


def _seed_of_rank_zero(patch: pytest.MonkeyPatch) -> None:
    """Every rank draws for rows 0 .. n - 1: the same latents on all ranks."""
    normal = noise.normal

    def from_zero(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
        return normal(seed, draw, step, range(len(rows)), width)

    patch.setattr(noise, "normal", from_zero)


def _never_reducing(self: Step, network: nn.Module, last: bool) -> AbstractContextManager[object]:
    return network.no_sync() if is_ddp(network) else nullcontext()  # type: ignore[operator]


def _no_reduction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Step, "all_reducing", _never_reducing)


def _clip_before_reduction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Step, "all_reducing", _never_reducing)
    for name, network in (("critic_gradients", "critic"), ("generator_gradients", "generator")):
        gradients = getattr(Step, name)

        def clipped(
            self: Step, *arguments: Any, gradients: Callable[..., None] = gradients, network: str = network
        ) -> None:
            gradients(self, *arguments)
            parameters = list(getattr(self.gan, network).parameters())
            torch.nn.utils.clip_grad_norm_(parameters, self.gan.config.clip.value)
            for parameter in parameters if self.world.size > 1 else ():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.world.size

        patch.setattr(Step, name, clipped)


def _labels_from_torch(patch: pytest.MonkeyPatch) -> None:
    def labels(seed: int, draw: Draw, step: int, rows: range, class_counts: tuple[int, ...]) -> np.ndarray:
        return (torch.rand(len(rows)) * len(class_counts)).long().numpy()

    patch.setattr(noise, "labels", labels)


def _share_without_remainder(patch: pytest.MonkeyPatch) -> None:
    def share(batch: int, group: int, world_size: int, rank: int) -> range:
        images = batch // group // world_size * group
        return range(rank * images, (rank + 1) * images)

    patch.setattr(step_module, "share", share)


def _average_on_rank_zero(patch: pytest.MonkeyPatch) -> None:
    update = Step.update_generator

    def only_main(self: Step) -> None:
        if not self.world.is_main:
            self.values = replace(self.values, ema_decay=1.0)
        update(self)

    patch.setattr(Step, "update_generator", only_main)


def _in_worlds(patch: pytest.MonkeyPatch, name: str, change: Callable[..., Any]) -> None:
    """Replace a method of the step by `change(step, original, ...)`, in worlds of more than one rank only."""
    original = getattr(Step, name)

    def changed(self: Step, *arguments: Any) -> None:
        if self.world.size == 1:
            original(self, *arguments)
        else:
            change(self, original, *arguments)

    patch.setattr(Step, name, changed)


def _longer_step(patch: pytest.MonkeyPatch) -> None:
    """Of 1.0001 times the learning rate, which the optimizer does not show."""

    def longer(
        self: Step, update: Callable[..., None], network: nn.Module, optimizer: Any, lr: float
    ) -> None:
        before = [parameter.detach().clone() for parameter in network.parameters()]
        update(self, network, optimizer, lr)
        for parameter, old in zip(network.parameters(), before, strict=True):
            parameter.data += 1e-4 * (parameter.data - old)

    _in_worlds(patch, "update", longer)


def _slower_average(patch: pytest.MonkeyPatch) -> None:
    """Its way to the weights is 0.9999 times as long."""

    def slower(self: Step, update: Callable[..., None]) -> None:
        before = [average.clone() for average in self.gan.ema.parameters()]
        update(self)
        for average, old in zip(self.gan.ema.parameters(), before, strict=True):
            average -= 1e-4 * (average - old)

    _in_worlds(patch, "update_generator", slower)


def _wider_clip(patch: pytest.MonkeyPatch) -> None:
    """The generator's gradients are clipped to 1.0001 times the norm, which Adam's step hardly shows."""

    def wider(self: Step, update: Callable[..., None], network: nn.Module, optimizer: Any, lr: float) -> None:
        def lengthen(*_: object) -> None:
            for parameter in self.gan.generator.parameters() if network is self.gan.generator else ():
                assert parameter.grad is not None
                parameter.grad *= 1.0001

        handle = optimizer.register_step_pre_hook(lengthen)
        # to the front: what Adam is given is recorded by a hook as well
        optimizer._optimizer_step_pre_hooks.move_to_end(handle.id, last=False)
        update(self, network, optimizer, lr)
        handle.remove()

    _in_worlds(patch, "update", wider)


def _other_moments(patch: pytest.MonkeyPatch) -> None:
    """The generator's mean gradient of a checkpoint is lost."""

    def forgetful(
        self: Step, update: Callable[..., None], network: nn.Module, optimizer: Any, lr: float
    ) -> None:
        for parameter in self.gan.generator.parameters() if network is self.gan.generator else ():
            optimizer.state[parameter]["exp_avg"].zero_()
        update(self, network, optimizer, lr)

    _in_worlds(patch, "update", forgetful)


MUTANTS: dict[str, Plant] = {
    "none": _nothing,
    "batch norm over the rank's share": _batch_norm_over_share,
    "one interpolation weight for all": _one_interpolation_weight,
    "mean of means": _mean_of_means,
    "gradient norm clipped before the reduction": _clip_before_reduction,
    "a seed for each rank": _seed_of_rank,
    "the same latents on all ranks": _seed_of_rank_zero,
    "gradients never reduced": _no_reduction,
    "labels from torch.rand": _labels_from_torch,
    "a share without the remainder": _share_without_remainder,
    "averaged on rank 0 only": _average_on_rank_zero,
}


SMALL_MUTANTS: dict[str, Plant] = {
    "a step 1.0001 times as long": _longer_step,
    "an average 0.9999 times as fast": _slower_average,
    "a clip 1.0001 times as wide": _wider_clip,
    "a moment forgotten": _other_moments,
}
"""Bugs near the rounding of float32, in worlds of several ranks only."""


def train_mutants(world: World, shards: Path, planted: list[tuple[str, Case]]) -> list[Trained]:
    """Train each case in float64 with its mutant planted; a job for `run_world`."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    results = []
    for mutant, case in planted:
        with pytest.MonkeyPatch.context() as patch, default_dtype(torch.float64):
            MUTANTS[mutant](patch)
            results.append(train_case(world, shards, reader, accelerator, case, 1))
    return results


def step_mutants(world: World, shards: Path, planted: list[tuple[str, Case]], folder: Path) -> list[Trained]:
    """A step of each case in float32 from its checkpoint, with its mutant planted; a job for `run_world`."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    results = []
    for mutant, case in planted:
        with pytest.MonkeyPatch.context() as patch, default_dtype(torch.float32):
            (MUTANTS | SMALL_MUTANTS)[mutant](patch)
            results.append(step_case(world, shards, reader, accelerator, case, 1, folder))
    return results
