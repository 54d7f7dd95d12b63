"""Bugs that distributed GAN code really has, to be planted in the worker processes: each must make a check fail."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from helpers.training import Trained, default_dtype, train_case

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


def _seed_of_all_alike(patch: pytest.MonkeyPatch) -> None:
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
        keep = self.gan.ema_decay
        self.gan.ema_decay = keep if self.world.is_main else 1.0
        update(self)
        self.gan.ema_decay = keep

    patch.setattr(Step, "update_generator", only_main)


MUTANTS: dict[str, Plant] = {
    "none": _nothing,
    "batch norm over the rank's share": _batch_norm_over_share,
    "one interpolation weight for all": _one_interpolation_weight,
    "mean of means": _mean_of_means,
    "gradient norm clipped before the reduction": _clip_before_reduction,
    "a seed for each rank": _seed_of_rank,
    "the same latents on all ranks": _seed_of_all_alike,
    "gradients never reduced": _no_reduction,
    "labels from torch.rand": _labels_from_torch,
    "a share without the remainder": _share_without_remainder,
    "averaged on rank 0 only": _average_on_rank_zero,
}


def train_mutants(world: World, shards: Path, planted: list[tuple[str, Case]]) -> list[Trained]:
    """Train each case with its mutant planted; a job for `run_world`."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    results = []
    for mutant, case in planted:
        with pytest.MonkeyPatch.context() as patch, default_dtype(torch.float64):
            MUTANTS[mutant](patch)
            results.append(train_case(world, shards, reader, accelerator, case, 1))
    return results
