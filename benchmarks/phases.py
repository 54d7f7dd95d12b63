"""Where the time of a training step goes: a clock that the production step is watched with, by phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, distributed
from torch.futures import Future

from benchmarks.step import Ours
from chexdist.training.networks import is_ddp
from chexdist.training.step import Step

BATCH = "real batch"
STEP = "schedule and what is left"
DRAWS = "draws: latents, labels, augmentation"
AUGMENTATION = "augmentation"
GENERATED = "generator, images for the critic"
CRITIC = "critic, forward and loss"
PENALTY = "penalty, forward and backward"
CRITIC_BACKWARD = "critic, backward"
GENERATOR = "generator's step, forward and loss"
GENERATOR_BACKWARD = "generator's step, backward"
OPTIMIZER = "optimizer, clip"
AVERAGE = "moving average (EMA)"
ALL_REDUCE = "all-reduce"
PHASES = (
    *(BATCH, DRAWS, AUGMENTATION, GENERATED, CRITIC, PENALTY, CRITIC_BACKWARD),
    *(GENERATOR, GENERATOR_BACKWARD, OPTIMIZER, AVERAGE, STEP, ALL_REDUCE),
)


class Clock:
    """Seconds by phase. Each is counted once: not in a phase around it. On a GPU a phase ends when the device
    has finished it, so phases don't overlap.
    """

    def __init__(self, on_gpu: bool) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._on_gpu, self._open, self._since = on_gpu, [""], 0.0

    @property
    def now(self) -> str:
        """The phase that is counted; empty outside all."""
        return self._open[-1]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the body as this phase."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def become(self, name: str) -> None:
        """The innermost phase is another one from here on."""
        self._turn()
        self._open[-1] = name

    def within(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, counted as this phase."""

        def counted(*given: Any, **named: Any) -> Any:
            with self.phase(name):
                return work(*given, **named)

        return counted

    def take(self) -> dict[str, float]:
        """What was counted since the last time."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def _turn(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.now:
            self.seconds[self.now] += now - self._since
        self._since = now


@contextmanager
def watched(training: Ours, clock: Clock) -> Iterator[None]:
    """Count all that `training.train()` does within the body, by phase, for ranks of their own; numbers stay
    what they are.

    A penalty's share of the backward pass ends where the gradient of the scores is complete: autograd goes
    through what was computed last first, so through the penalty before the critic's loss.
    """
    step, gan = training.step, training.gan
    generate, score, backward = gan.generator.forward, gan.critic.forward, Tensor.backward
    penalise = step.penalty.penalty if step.penalty is not None else None
    penalised = False

    def generated(*given: Any) -> Any:
        with clock.phase(GENERATED if clock.now == CRITIC else clock.now):
            return generate(*given)

    def scored(*given: Any) -> Any:
        scores = score(*given)
        if clock.now == CRITIC:
            scores.register_hook(lambda gradient: clock.become(CRITIC_BACKWARD))
        return scores

    def penalty(*given: Any) -> Any:
        nonlocal penalised
        assert penalise is not None
        penalised = True
        with clock.phase(PENALTY):
            return penalise(*given)

    def backwards(total: Tensor, *given: Any, **named: Any) -> None:
        nonlocal penalised
        first = PENALTY if penalised else CRITIC_BACKWARD
        penalised = False
        with clock.phase(GENERATOR_BACKWARD if clock.now == GENERATOR else first):
            backward(total, *given, **named)

    within = clock.within
    with (
        patch.multiple(
            step,
            penalty=SimpleNamespace(penalty=penalty) if penalise else None,
            normal=within(DRAWS, step.normal),
            uniform=within(DRAWS, step.uniform),
            labels=within(DRAWS, step.labels),
            augmented=within(AUGMENTATION, step.augmented),
            critic_gradients=within(CRITIC, step.critic_gradients),
            generator_gradients=within(GENERATOR, step.generator_gradients),
            update=within(OPTIMIZER, step.update),
            update_critic=within(OPTIMIZER, step.update_critic),
            update_generator=within(AVERAGE, step.update_generator),
        ),
        patch.object(training, "train", within(BATCH, training.train)),
        patch.object(Step, "__call__", within(STEP, Step.__call__)),
        patch.object(Tensor, "backward", backwards),
        patch.object(gan.generator, "forward", generated),
        patch.object(gan.critic, "forward", scored),
    ):
        yield


def count_all_reduces(training: Ours, clock: Clock) -> None:
    """Count DDP's sums of gradients, with waiting for the other rank; they then no longer overlap with the
    backward pass.
    """

    def summed(counting: Clock, bucket: distributed.GradBucket) -> Future[Tensor]:
        with counting.phase(ALL_REDUCE):
            distributed.all_reduce(bucket.buffer())
            bucket.buffer().div_(distributed.get_world_size())
        done: Future[Tensor] = Future()
        done.set_result(bucket.buffer())
        return done

    for network in (training.gan.ddp_generator, training.gan.ddp_critic):
        assert is_ddp(network)
        network.register_comm_hook(clock, summed)
