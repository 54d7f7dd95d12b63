"""The step's updates: masked when a gradient is not finite, averaged by images, and lazily weighted."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import BATCH, CLIPS, SIZE, Case
from helpers.training import default_dtype
from helpers.worlds import run_world
from torch import Tensor, nn

from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.training.networks import Gan
from chexdist.training.step import Step

ALONE = World(rank=0, size=1, node=0, local_rank=0)


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return make_accelerator(ALONE, timeout_seconds=60)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with default_dtype(torch.float64):
        yield


def _step(accelerator: Any, world: World = ALONE, **settings: Any) -> Step:
    chosen = {"model.name": "wgan", "loss.name": "wasserstein"}
    chosen |= {name.replace("__", "."): value for name, value in settings.items()}
    step = Step(Gan(Case("", chosen).config(), (3, 1), accelerator), world)
    step.warm_up()
    return step


def _images(t: int, rows: range) -> tuple[Tensor, Tensor]:
    images = np.random.default_rng(t).uniform(-1, 1, (BATCH, 1, SIZE, SIZE))[rows.start : rows.stop]
    return torch.from_numpy(images), torch.zeros(len(rows), dtype=torch.int64)


def _state(network: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Weights, moments and step counts."""
    state = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for name, parameter in network.named_parameters():
        state |= {f"{name}.{key}": value.clone() for key, value in optimizer.state[parameter].items()}
    return state


def _same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(value.equal(after[name]) for name, value in before.items())


@pytest.mark.parametrize("clip", ["none", *CLIPS])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["critic", "generator"])
def test_update_that_is_not_finite_is_left_out(which: str, bad: float, clip: str, accelerator: Any) -> None:
    step = _step(accelerator, clip__name=clip, clip__value=CLIPS.get(clip, 1.0))
    network, optimizer = getattr(step.gan, which), getattr(step.gan, f"{which}_optimizer")
    step(0, *_images(0, step.share))
    before = _state(network, optimizer)
    hook = next(network.parameters()).register_hook(lambda gradient: gradient * bad)
    step(1, *_images(1, step.share))
    hook.remove()
    assert _same(before, _state(network, optimizer))
    assert step.losses.not_finite.item() == 1
    step(2, *_images(2, step.share))
    after = _state(network, optimizer)
    assert not any(value.equal(before[name]) for name, value in after.items() if name.endswith("step"))
    assert step.losses.not_finite.item() == 1 and all(torch.isfinite(value).all() for value in after.values())


def test_first_update_may_be_left_out(accelerator: Any) -> None:
    """Then Adam must still count from its first step: with the bias correction of step 1."""
    step, other = _step(accelerator), _step(accelerator)
    images, labels = _images(0, step.share)
    for factor in (float("nan"), 1.0):
        step.critic_gradients(0, images * factor, labels)
        step.update_critic()
    other.critic_gradients(0, images, labels)
    other.update_critic()
    assert _same(
        _state(step.gan.critic, step.gan.critic_optimizer),
        _state(other.gan.critic, other.gan.critic_optimizer),
    )


def _nan_on_one_rank(world: World) -> tuple[bool, float, dict[str, np.ndarray]]:
    with default_dtype(torch.float64):
        step = _step(make_accelerator(world, timeout_seconds=60), world, penalty__name="gp")
        step(0, *_images(0, step.share))
        before = _state(step.gan.critic, step.gan.critic_optimizer)
        images, labels = _images(1, step.share)
        if world.rank == 1:
            images[0, 0, 0, 0] = float("nan")
        step(1, images, labels)
        after = _state(step.gan.critic, step.gan.critic_optimizer)
        weights = {
            name: value.detach().numpy().copy() for name, value in step.gan.generator.named_parameters()
        }
        return _same(before, after), step.losses.not_finite.item(), weights


def test_one_rank_with_a_nan_masks_all() -> None:
    results = run_world(3, _nan_on_one_rank)
    assert [(same, count) for same, count, _ in results] == [(True, 1.0)] * 3
    for _, _, weights in results[1:]:
        assert all(np.array_equal(weights[name], value) for name, value in results[0][2].items())


FROZEN: dict[str, Any] = {"optim.generator": {"lr": 1e-300}, "optim.critic": {"lr": 1e-300}}


@pytest.mark.parametrize("n_critic", [1, 2])
def test_average_halves_after_its_halflife(n_critic: int, accelerator: Any) -> None:
    """From 0, with weights that stand still, the average is half of them after `ema.halflife` images."""
    halflife = 4
    step = _step(accelerator, train__n_critic=n_critic, ema__halflife=halflife * BATCH, **FROZEN)
    for average in step.gan.ema.parameters():
        average.zero_()
    for t in range(halflife):
        step(t, *_images(t, step.share))
    for average, weight in zip(step.gan.ema.parameters(), step.gan.generator.parameters(), strict=True):
        torch.testing.assert_close(average, weight.detach() / 2)


@pytest.mark.parametrize("batches", [2, 4])
def test_lazy_penalty_has_the_mean_of_the_eager(batches: int, accelerator: Any) -> None:
    """Weights and images stand still, so all evaluations are equal: loss and gradient agree over a cycle."""
    gradients, sums = [], []
    images, labels = _images(0, range(BATCH))
    for every in (0, batches * BATCH):
        step = _step(accelerator, penalty__name="r1", penalty__every=every, **FROZEN)
        update = step.update
        seen: list[Tensor] = []

        def recording(
            network: nn.Module, *rest: Any, step: Step = step, update: Any = update, seen: Any = seen
        ) -> None:
            if network is step.gan.critic:
                seen.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
            update(network, *rest)

        step.update = recording  # type: ignore[method-assign]
        # the same latents in each batch, so that only the penalty's part can differ
        step.normal = partial(_of_batch_zero, step.normal)  # type: ignore[method-assign]
        for t in range(batches):
            step(t, images, labels)
        gradients.append(torch.stack(seen))
        sums.append(step.losses.penalty.item())
    eager, lazy = gradients
    assert sums[0] == pytest.approx(sums[1]) and sums[0] > 0
    torch.testing.assert_close(eager.mean(0), lazy.mean(0))
    assert not torch.allclose(eager[0], lazy[0]) and lazy[0].equal(lazy[batches - 2])


def _of_batch_zero(normal: Any, draw: Any, t: int, part: range) -> Tensor:
    return normal(draw, 0, part)


def test_penalty_is_weighted(accelerator: Any) -> None:
    """The critic's gradient is that of the loss plus weight times the penalty's."""
    images, labels = _images(0, range(BATCH))
    gradients = []
    for gain, weight in ((0.0, 1.0), (1.0, 1.0), (1.0, 7.0)):
        step = _step(accelerator, penalty__name="gp", penalty__weight=weight)
        step.critic_gradients(0, images, labels, gain)
        gradients.append([parameter.grad for parameter in step.gan.critic.parameters()])
    for without, once, seven in zip(*gradients, strict=True):
        torch.testing.assert_close(seven - without, 7 * (once - without))
