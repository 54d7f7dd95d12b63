"""The networks' beginnings: what the residual family is made of, and the variance of weights after He."""

import itertools
import math

import pytest
import torch
from torch import nn

from chexdist.gan.models import FAMILIES
from chexdist.gan.models.dcgan import doubling
from chexdist.gan.models.residual import Block, channels
from chexdist.gan.models.spec import Spec

SIZES = (32, 64, 128, 256, 512)


def spec(
    size: int = 32, width: int = 2, classes: int = 0, norm: str = "none", upsampling: str = "transposed"
) -> Spec:
    return Spec(size, 8, width, classes, norm, group=2, upsampling=upsampling)


def networks(name: str, given: Spec) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return FAMILIES[name].Generator(given), FAMILIES[name].Critic(given)


def test_channels_by_hand() -> None:
    assert channels(spec(32, 16)) == [16, 32, 64, 128]  # at 32, 16, 8, 4 px
    assert channels(spec(512, 3)) == [3, 6, 12, 24, 24, 24, 24, 24]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [0, 2])
def test_neither_norms_nor_transposed_convolutions(size: int, classes: int) -> None:
    """One block a side from 4 px on, in either network; nothing that sees more than one image."""
    for network in networks("residual", spec(size, 1, classes)):
        kinds = {type(module).__name__ for module in network.modules()}
        assert not [kind for kind in kinds if "Norm" in kind or "Transpose" in kind], kinds
        assert sum(isinstance(module, Block) for module in network.modules()) == math.log2(size) - 1
        assert not list(network.buffers())


@pytest.mark.parametrize(("size", "classes"), [*((size, 2) for size in SIZES), (32, 0)])
def test_shapes(size: int, classes: int) -> None:
    generator, critic = networks("residual", spec(size, 1, classes))
    label = torch.tensor([0, 1])
    images = generator(3 * torch.randn(2, 8), label)
    assert images.shape == (2, 1, size, size) and images.abs().max() <= 1
    scores = critic(images, label)
    assert scores.shape == (2,) and torch.isfinite(scores).all()
    assert critic(images, 1 - label).equal(scores) == (classes == 0)
    first, second = generator(torch.ones(2, 8), label)
    assert torch.allclose(first, second) == (classes == 0)


def test_blocks_begin_as_the_identity() -> None:
    for network in networks("residual", spec(64, 4, 2)):
        blocks = [module for module in network.modules() if isinstance(module, Block)]
        for block in blocks:
            x = torch.randn(2, block.first.in_channels, 8, 8)
            assert block(x).equal(x) and not block.last.weight.any() and block.first.weight.any()
        nn.init.ones_(blocks[0].last.bias)
        x = torch.randn(2, blocks[0].first.in_channels, 8, 8)
        torch.testing.assert_close(blocks[0](x), x + 1)


def test_a_block_by_hand() -> None:
    """x + W2 f(W1 f(x)) on one pixel, where only the middles of the 3 x 3 kernels count; f has slope 0.2."""
    block = Block(1, blocks=4)
    for layer, weight in ((block.first, 3.0), (block.last, -2.0)):
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[0, 0, 1, 1] = weight
    x = torch.tensor([2.0, -5.0]).view(2, 1, 1, 1)
    # f(2) = 2, 3 * 2 = 6, f(6) = 6, 2 - 2 * 6 = -10; f(-5) = -1, -3, f(-3) = -0.6, -5 + 1.2 = -3.8
    torch.testing.assert_close(block(x).flatten(), torch.tensor([-10.0, -3.8]))


def test_a_gain_scales_what_a_block_adds() -> None:
    """Per image and channel, before the second rectifier: a gain of 0 leaves the identity."""
    torch.manual_seed(0)
    block, x = Block(2, blocks=4), torch.randn(3, 2, 4, 4)
    nn.init.normal_(block.last.weight)
    torch.testing.assert_close(block(x, torch.ones(3, 2)), block(x))
    assert block(x, torch.zeros(3, 2)).equal(x)
    doubled = block(x, torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])) - x
    torch.testing.assert_close(doubled[1], 2 * (block(x) - x)[1])
    torch.testing.assert_close(doubled[[0, 2]], (block(x) - x)[[0, 2]])


def test_gains_begin_around_one() -> None:
    torch.manual_seed(0)
    generator, _ = networks("residual", Spec(32, 64, 16, 0, "none", group=2))
    with torch.no_grad():
        drawn = torch.cat([gain(torch.randn(500, 64)).flatten() for gain in generator.gains])
    assert drawn.mean().item() == pytest.approx(1, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("blocks", [1, 4, 16])
def test_the_first_convolution_is_scaled_by_the_depth(blocks: int) -> None:
    """He 2015 for slope 0.2: variance 2 / (1.04 * inputs); Fixup: times L^(-1/4), squared."""
    torch.manual_seed(0)
    weights = Block(64, blocks).first.weight
    expected = 2 / (1.04 * 64 * 9) / math.sqrt(blocks)
    assert weights.var().item() == pytest.approx(expected, rel=0.03)
    assert abs(weights.mean().item()) < 5 * math.sqrt(expected / weights.numel())


@pytest.mark.parametrize(
    ("name", "norm", "he"),
    [
        ("dcgan", "none", True),
        ("dcgan", "batch", False),
        ("dcgan", "instance", False),
        ("wgan", "none", True),
    ],
)
def test_variance_of_a_critics_weights(name: str, norm: str, he: bool) -> None:
    """After He where no norm sets the scale: 2 / (1.04 * inputs); N(0, 0.02) with one, as in the paper."""
    _, critic = networks(name, spec(32, 32, norm=norm))
    layers = [module for module in critic.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        expected = 2 / (1.04 * layer.weight[0].numel()) if he else 0.02**2
        few = 6 * math.sqrt(2 / layer.weight.numel())  # standard deviations of an estimated variance
        assert layer.weight.var().item() == pytest.approx(expected, rel=few)
        assert layer.bias is None or not layer.bias.any()


def test_scores_begin_with_the_scale_of_the_images() -> None:
    """Without a norm, N(0, 0.02) would give scores of a hundredth."""
    _, critic = networks("dcgan", spec(64, 16))
    scores = critic(torch.randn(64, 1, 64, 64), torch.zeros(64, dtype=torch.int64))
    assert 0.1 < scores.std().item() < 10


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
@pytest.mark.parametrize(("upsampling", "transposed"), [("transposed", 4), ("bilinear", 1), ("nearest", 1)])
def test_upsampling(name: str, upsampling: str, transposed: int) -> None:
    """The first layer, from one pixel to 4 x 4, is a transposed convolution always: it overlaps nowhere."""
    generator, _ = networks(name, spec(32, 2, upsampling=upsampling))
    layers = list(generator.modules())
    assert sum(isinstance(layer, nn.ConvTranspose2d) for layer in layers) == transposed
    modes = [layer.mode for layer in layers if isinstance(layer, nn.Upsample)]
    assert modes == ([] if upsampling == "transposed" else [upsampling] * 3)
    images = generator(torch.randn(4, 8), torch.zeros(4, dtype=torch.int64))
    assert images.shape == (4, 1, 32, 32) and images.abs().max() <= 1


def test_interpolation_leaves_no_checkerboard() -> None:
    """Of a constant input, the inner pixels of each 2 x 2 square are the same; transposed ones differ."""
    for upsampling, same in (("bilinear", True), ("nearest", True), ("transposed", False)):
        torch.manual_seed(0)
        doubled = nn.Sequential(*doubling(3, 1, upsampling))(torch.ones(1, 3, 8, 8))[0, 0, 4:12, 4:12]
        corners = [doubled[row::2, column::2] for row, column in itertools.product((0, 1), repeat=2)]
        assert all(torch.allclose(corners[0], corner) for corner in corners[1:]) == same
