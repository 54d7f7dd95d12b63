"""How many operators a step takes: on a large GPU each is a launch, which takes longer than its work."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from chexdist.config.load import load_config
from chexdist.config.shipped import shipped
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.training.networks import Gan
from chexdist.training.step import Step

ALONE = World(rank=0, size=1, node=0, local_rank=0)
SMALL = ("--model.size=32", "--model.width=2", "--model.latent=8", "--train.precision=no")
CEILINGS = {
    "dcgan": (285, 360),
    "dcgan-128": (285, 360),
    "dcgan-256": (285, 360),
    "residual": (465, 700),
    "vanilla": (150, None),
    "wgan-clip": (288, None),
    "wgan-gp": (285, 360),
}
"""Operators of a step at 32 px by configuration, of one without the penalty and of one with it."""
LAUNCHES_NOTHING = {
    *("detach", "_unsafe_view", "lift_fresh", "_local_scalar_dense"),
    *("empty", "empty_strided", "new_empty_strided", "empty_like"),
}


class Operators(TorchDispatchMode):
    """Counts what is dispatched, but views and allocations; an operator over a list of tensors is one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, _, name = operator._schema.name.partition("::")
        self.count += not (operator.is_view or name in LAUNCHES_NOTHING or namespace == "profiler")
        return operator(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def operators() -> Callable[..., int | None]:
    """`operators(name, penalty, *settings)` -> those of a step after another one; None where a configuration
    has no such step."""
    accelerator = make_accelerator(ALONE, timeout_seconds=60)

    def counted(name: str, penalty: bool, *settings: str) -> int | None:
        config = load_config(name, [*SMALL, *settings])
        step, batch = Step(Gan(config, (3, 1), accelerator), ALONE), config.train.batch
        if penalty and config.penalty.name == "none":
            return None
        step.schedule = [
            replace(phase, every=2 * batch) if phase.name == "penalty" else phase for phase in step.schedule
        ]
        images, labels = batch_of(batch)
        for t in (int(penalty), 2 + int(penalty)):  # the optimizers make their moments in the first
            with Operators() as seen:
                step(t, images, labels)
        return seen.count

    return counted


def batch_of(size: int) -> tuple[Tensor, Tensor]:
    images = torch.rand(size, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return images, torch.arange(size) % 2


@pytest.mark.parametrize("name", shipped())
def test_ceiling(name: str, operators: Callable[..., int | None]) -> None:
    found = [operators(name, penalty) for penalty in (False, True)]
    for number, ceiling in zip(found, CEILINGS[name], strict=True):
        assert (number is None) == (ceiling is None)
        assert number is None or ceiling is None or number <= ceiling, f"{found}, not {CEILINGS[name]}"


@pytest.mark.parametrize("penalty", [False, True])
@pytest.mark.parametrize("name", shipped())
def test_as_many_for_eight_groups_as_for_two(
    name: str, penalty: bool, operators: Callable[..., int | None]
) -> None:
    two, eight = (operators(name, penalty, "--train.group=8", f"--train.batch={size}") for size in (16, 64))
    assert two == eight


def test_batch_norm_in_both_networks(operators: Callable[..., int | None]) -> None:
    settings = ("--model.norm=batch", "--penalty.name=none", "--train.group=8")
    two, eight = (operators("dcgan", False, *settings, f"--train.batch={size}") for size in (16, 64))
    assert two is not None and two == eight <= 370
