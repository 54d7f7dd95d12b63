"""Networks: shapes and ranges at every size, and the ghost batch norm against torch's own."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.training import default_dtype
from torch import Tensor, nn

from chexdist.config.rules import NORMS
from chexdist.gan.models import FAMILIES
from chexdist.gan.models.norms import GhostBatchNorm, calibrate
from chexdist.gan.models.spec import Spec

BUILDS = [(model, norm) for model in FAMILIES for norm in NORMS[model]]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with default_dtype(torch.float64):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize(("model", "norm"), BUILDS)
def test_shapes_and_ranges(model: str, norm: str, size: int) -> None:
    for classes in (0, 2):
        spec = Spec(size=size, latent=5, width=1, classes=classes, norm=norm, group=2)
        generator, critic = FAMILIES[model].Generator(spec), FAMILIES[model].Critic(spec)
        label = torch.tensor([0, 1, 1, 0])
        images = generator(100 * torch.randn(4, 5), label)
        assert images.shape == (4, 1, size, size) and images.abs().max() <= 1
        scores = critic(images, label)
        assert scores.shape == (4,) and torch.isfinite(scores).all()
        changed = critic(images, 1 - label)
        assert changed.equal(scores) == (classes == 0), "labels count when there are classes, and only then"


@pytest.mark.parametrize(("model", "norm"), BUILDS)
def test_every_parameter_has_a_gradient(model: str, norm: str) -> None:
    """DDP waits for all; one that never gets a gradient stops it. Not at the start, where some weights are 0,
    which hides what is behind them."""
    spec = Spec(size=32, latent=5, width=2, classes=2, norm=norm, group=2)
    generator, critic = FAMILIES[model].Generator(spec), FAMILIES[model].Critic(spec)
    with torch.no_grad():
        for parameter in [*generator.parameters(), *critic.parameters()]:
            parameter += 0.02 * torch.randn(parameter.shape)
    label = torch.tensor([0, 1, 1, 0])
    (critic(generator(torch.randn(4, 5), label), label).square()).sum().backward()
    for name, parameter in [*generator.named_parameters(), *critic.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.norm() > 0, name


@pytest.mark.parametrize("norm", ["none", "instance", "group"])
@pytest.mark.parametrize("model", FAMILIES)
def test_critic_without_batch_norm_judges_each_image_by_itself(model: str, norm: str) -> None:
    if norm not in NORMS[model]:
        pytest.skip(f"{model} takes {NORMS[model]}")
    critic = FAMILIES[model].Critic(Spec(size=32, latent=5, width=2, classes=0, norm=norm, group=2))
    images, label = torch.rand(4, 1, 32, 32), torch.zeros(4, dtype=torch.int64)
    torch.testing.assert_close(critic(images, label)[1:2], critic(images[1:2], label[1:2]))


def test_ghost_batch_norm_is_torch_batch_norm_of_each_group() -> None:
    ghost, torchs = GhostBatchNorm(3, group=4), nn.BatchNorm2d(3)
    nn.init.normal_(ghost.bias)
    with torch.no_grad():
        torchs.weight.copy_(ghost.weight)
        torchs.bias.copy_(ghost.bias)
    x = (5 + 2 * torch.randn(12, 3, 5, 5)).requires_grad_()
    y = ghost(x)
    expected = torch.cat([torchs(x[start : start + 4]) for start in (0, 4, 8)])
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn(y.shape)
    ours, theirs = (
        slopes(out, direction, [x, norm.weight, norm.bias]) for out, norm in ((y, ghost), (expected, torchs))
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def slopes(out: Tensor, direction: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """The gradient, and that of the gradient's square, as a gradient penalty takes it."""
    first = torch.autograd.grad((out * direction).sum(), inputs, create_graph=True)
    return [*first, *torch.autograd.grad(first[0].square().sum(), inputs[:2])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [3, 8])
def test_a_group_is_the_same_to_the_bit_however_many_there_are(side: int, dtype: torch.dtype) -> None:
    """In the formats that training has: channels last, and as many channels as fill a processor's vectors."""
    ghost = GhostBatchNorm(16, group=4).to(dtype)
    given = (1 + torch.randn(24, 16, side, side, dtype=dtype)).to(memory_format=torch.channels_last)
    direction = torch.randn_like(given)

    def of(start: int, stop: int) -> tuple[Tensor, Tensor]:
        x = given[start:stop].detach().requires_grad_()
        y = ghost(x)
        return y, *torch.autograd.grad(y, x, direction[start:stop])

    whole = of(0, 24)
    for edges in ((0, 4, 8, 12, 16, 20, 24), (0, 12, 24), (0, 4, 24)):
        parts = zip(*(of(*ends) for ends in itertools.pairwise(edges)), strict=True)
        assert all(torch.cat(part).equal(all_of_it) for part, all_of_it in zip(parts, whole, strict=True))


def test_training_mode_remembers_nothing() -> None:
    ghost = GhostBatchNorm(3, group=2)
    before = {name: value.clone() for name, value in ghost.named_buffers()}
    ghost(torch.randn(4, 3, 5, 5))
    assert before and all(value.equal(before[name]) for name, value in ghost.named_buffers())


def test_calibration_takes_the_statistics_of_the_pass() -> None:
    generator = FAMILIES["dcgan"].Generator(Spec(size=32, latent=5, width=2, classes=0, norm="none", group=4))
    latent, label = torch.randn(16, 5), torch.zeros(16, dtype=torch.int64)
    inputs: dict[nn.Module, np.ndarray] = {}
    layers = [layer for layer in generator.modules() if isinstance(layer, GhostBatchNorm)]
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, given: inputs.update({layer: given[0].detach().numpy()})
        )
        for layer in layers
    ]
    generator.train()
    calibrate(generator, lambda: generator(latent, label))
    for hook in hooks:
        hook.remove()
    assert not generator.training and len(inputs) == len(layers) == 3
    for layer in layers:
        np.testing.assert_allclose(layer.mean, inputs[layer].mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose(layer.variance, inputs[layer].var(axis=(0, 2, 3)), rtol=1e-5)
    alone = torch.cat([generator(latent[i : i + 1], label[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(alone, generator(latent, label), msg="an image depends on its neighbours")
    first = layers[0]
    x = torch.from_numpy(inputs[first])
    torchs = nn.BatchNorm2d(first.weight.numel(), momentum=None)
    with torch.no_grad():
        torchs.weight.copy_(first.weight)
        torchs.bias.copy_(first.bias)
    torch.testing.assert_close(first(x), torchs(x), rtol=1e-5, atol=1e-5)
