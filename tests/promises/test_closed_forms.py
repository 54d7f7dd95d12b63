"""Losses, penalties, clips, schedule and augmentation against their formulae, computed another way."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from helpers.training import default_dtype
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from torch import Tensor, nn

from chexdist.config.load import build_config
from chexdist.gan.augment import AUGMENTS, translate
from chexdist.gan.clips import CLIPS, GradientClip, WeightClip
from chexdist.gan.losses import LOSSES
from chexdist.gan.penalties import PENALTIES
from chexdist.training.schedule import phases

IMAGES, SIDE = 5, 6


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with default_dtype(torch.float64):
        yield


CRITIC_LOSS: dict[str, Callable[..., np.ndarray]] = {
    "non-saturating": lambda real, fake: -np.log(expit(real)) - np.log(1 - expit(fake)),
    "wasserstein": lambda real, fake: fake - real,
    "hinge": lambda real, fake: np.maximum(0, 1 - real) + np.maximum(0, 1 + fake),
    "relativistic": lambda real, fake: -np.log(expit(real - fake)),
}
GENERATOR_LOSS: dict[str, Callable[..., np.ndarray]] = {
    "non-saturating": lambda fake, real: -np.log(expit(fake)),
    "wasserstein": lambda fake, real: -fake,
    "hinge": lambda fake, real: -fake,
    "relativistic": lambda fake, real: -np.log(expit(fake - real)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    real, fake = torch.linspace(-6, 6, 50), torch.linspace(5, -7, 50)
    np.testing.assert_allclose(LOSSES[name].critic(real, fake), CRITIC_LOSS[name](real.numpy(), fake.numpy()))
    np.testing.assert_allclose(
        LOSSES[name].generator(fake, real), GENERATOR_LOSS[name](fake.numpy(), real.numpy())
    )


@pytest.mark.parametrize("name", LOSSES)
def test_generator_sees_real_scores_only_where_it_says_so(name: str) -> None:
    fake, scores = torch.linspace(-1, 1, 9), [torch.linspace(low, 2, 9) for low in (-2, 1)]
    one, other = (LOSSES[name].generator(fake, real) for real in scores)
    assert LOSSES[name].GENERATOR_SEES_REAL != torch.equal(one, other)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_certain_scores_is_finite(name: str) -> None:
    scores = torch.tensor([-1e4, 1e4], dtype=torch.float32, requires_grad=True)
    losses = LOSSES[name].critic(scores, -scores) + LOSSES[name].generator(scores, -scores)
    losses.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(losses).all() and torch.isfinite(scores.grad).all()


class Linear(nn.Module):
    """C(x) = w.x: the gradient by the image is w everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.from_numpy(np.random.default_rng(0).normal(size=SIDE**2)))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return image.flatten(1) @ self.w


class Square(nn.Module):
    """C(x) = |x|^2 / 2: the gradient by the image is x, which shows where the penalty looks."""

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return image.square().flatten(1).sum(1) / 2


def _images(seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (IMAGES, 1, SIDE, SIDE)))


REAL, FAKE, LABEL = _images(1), _images(2), torch.zeros(IMAGES, dtype=torch.int64)
WEIGHTS = torch.tensor([0.0, 0.1, 0.5, 0.7, 1.0], dtype=torch.float64)


def _between() -> np.ndarray:
    weights = WEIGHTS.numpy()[:, None, None, None]
    return (REAL.numpy() * (1 - weights) + FAKE.numpy() * weights).reshape(IMAGES, -1)


LINEAR = {
    "gp": lambda w: ((np.linalg.norm(w) - 1) ** 2, 2 * (np.linalg.norm(w) - 1) * w / np.linalg.norm(w)),
    "r1": lambda w: (w @ w / 2, w),
    "r1+r2": lambda w: (w @ w, 2 * w),
}
"""Penalty and its gradient by w for the linear critic."""

SQUARE = {
    "gp": lambda: (np.linalg.norm(_between(), axis=1) - 1) ** 2,
    "r1": lambda: (REAL.numpy().reshape(IMAGES, -1) ** 2).sum(1) / 2,
    "r1+r2": lambda: (np.stack([REAL.numpy(), FAKE.numpy()]).reshape(2, IMAGES, -1) ** 2).sum((0, 2)) / 2,
}

NAMES = [name for name in PENALTIES if name != "none"]


@pytest.mark.parametrize("name", NAMES)
def test_penalty_of_a_linear_critic(name: str) -> None:
    critic, penalty = Linear(), PENALTIES[name]
    assert penalty is not None
    penalties = penalty.penalty(critic, REAL, FAKE, LABEL, WEIGHTS)
    value, gradient = LINEAR[name](critic.w.detach().numpy())
    np.testing.assert_allclose(penalties.detach(), np.full(IMAGES, value), rtol=1e-10)
    penalties.sum().backward()
    assert critic.w.grad is not None
    np.testing.assert_allclose(critic.w.grad, IMAGES * gradient, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_penalty_looks_at_the_right_images(name: str) -> None:
    penalty = PENALTIES[name]
    assert penalty is not None
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    np.testing.assert_allclose(
        penalty.penalty(Square(), real, fake, LABEL, WEIGHTS).detach(), SQUARE[name](), rtol=1e-9
    )


class Cubic(nn.Module):
    """C(x, y) = (1 + y) sum_p w_p x_p^3 / 3: the gradient by the image is (1 + y) w x^2."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.from_numpy(np.random.default_rng(3).normal(size=SIDE**2)))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return (1 + label) * (image.flatten(1) ** 3 @ self.w) / 3


def test_both_penalties_of_a_cubic_critic() -> None:
    """sum_p ((1 + y) w x^2)^2 / 2 at both images of a pair, which have one label; its gradient by w."""
    critic, penalty, label = Cubic(), PENALTIES["r1+r2"], torch.tensor([0, 1, 2, 1, 0])
    assert penalty is not None
    penalties = penalty.penalty(critic, REAL, FAKE, label, WEIGHTS)
    w, scale = critic.w.detach().numpy(), (1 + label.numpy())[:, None]
    slopes = [scale * w * image.numpy().reshape(IMAGES, -1) ** 2 for image in (REAL, FAKE)]
    np.testing.assert_allclose(penalties.detach(), sum((slope**2).sum(1) / 2 for slope in slopes), rtol=1e-10)
    (gradient,) = torch.autograd.grad(penalties.sum(), critic.w)
    np.testing.assert_allclose(gradient, sum((slope**2 / w).sum(0) for slope in slopes), rtol=1e-10)
    assert not REAL.requires_grad and not FAKE.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_penalty_of_a_constant_critic_has_a_gradient(name: str) -> None:
    """Where the slope is 0 a plain square root has no derivative."""
    critic, penalty = Linear(), PENALTIES[name]
    assert penalty is not None
    nn.init.zeros_(critic.w)
    penalty.penalty(critic, REAL, FAKE, LABEL, WEIGHTS).sum().backward()
    assert critic.w.grad is not None and torch.isfinite(critic.w.grad).all()


def type_of_clip(name: str) -> str:
    clip = CLIPS[name]
    return "gradients" * isinstance(clip, GradientClip) + "weights" * isinstance(clip, WeightClip)


def test_registries_are_covered() -> None:
    assert CRITIC_LOSS.keys() == GENERATOR_LOSS.keys() == LOSSES.keys()
    assert LINEAR.keys() == SQUARE.keys() == set(NAMES)
    assert {name: type_of_clip(name) for name in CLIPS} == {
        "norm": "gradients",
        "weight": "weights",
        "none": "",
    }
    assert set(AUGMENTS) == {"none", "translate", "translate-color", "affine-color"}


@pytest.mark.parametrize("value", [0.3, 1e6])
def test_norm_clip_is_that_of_torch(value: float) -> None:
    ours = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(7))]
    theirs = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(7))]
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(len(one)))
        other.grad = one.grad.clone()
    gradients = [parameter.grad for parameter in ours if parameter.grad is not None]
    clip = CLIPS["norm"]
    assert isinstance(clip, GradientClip)
    clip.clip_gradients(gradients, torch.nn.utils.get_total_norm(gradients), value)
    torch.nn.utils.clip_grad_norm_(theirs, value)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_weight_clip() -> None:
    weights = nn.Parameter(torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0]))
    clip = CLIPS["weight"]
    assert isinstance(clip, WeightClip)
    clip.clip_weights([weights], 0.1)
    assert weights.tolist() == [-0.1, -0.1, 0.0, 0.1, 0.1]


@given(st.integers(1, 64), st.integers(0, 700), st.integers(1, 6))
def test_schedule(batch: int, every: int, n_critic: int) -> None:
    """A generator step follows every n_critic batches; the lazy penalty's gains add up to one a batch."""
    config = build_config(
        {
            "model": {"name": "wgan"},
            "loss": {"name": "wasserstein"},
            "penalty": {"name": "gp", "every": every},
            "train": {"batch": batch, "group": 1, "n_critic": n_critic},
        }
    )
    schedule = {phase.name: phase for phase in phases(config)}
    due = {
        name: [phase.due(t * batch, (t + 1) * batch) for t in range(60 * n_critic)]
        for name, phase in schedule.items()
    }
    assert due["generator"] == [(t + 1) % n_critic == 0 for t in range(60 * n_critic)]
    gain = schedule["penalty"].gain
    assert abs(sum(due["penalty"]) * gain - 60 * n_critic) <= gain
    if every <= batch:
        assert all(due["penalty"]) and gain == 1


def _moved(image: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Pixel by pixel: shift by at most an eighth of the side, then a square of half the side set to 0."""
    size = len(image)
    down, right = (int(np.floor(draw * (2 * (size // 8) + 1))) - size // 8 for draw in draws[:2])
    top, left = (int(np.floor(draw * (size + 1))) - size // 4 for draw in draws[2:])
    moved = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            inside = 0 <= row + down < size and 0 <= column + right < size
            cut = top <= row < top + size // 2 and left <= column < left + size // 2
            if inside and not cut:
                moved[row, column] = image[row + down, column + right]
    return moved


@pytest.mark.parametrize("size", [32, 64])
def test_translate_pixel_by_pixel(size: int) -> None:
    random = np.random.default_rng(size)
    images, draws = random.uniform(0.1, 1, (12, 1, size, size)), random.random((12, translate.DRAWS))
    draws[0], draws[1] = 0.0, np.nextafter(1.0, 0.0)
    moved = translate.augment(torch.from_numpy(images), torch.from_numpy(draws)).numpy()
    for image, draw, found in zip(images, draws, moved, strict=True):
        np.testing.assert_array_equal(found[0], _moved(image[0], draw))


def test_translate_is_differentiable_and_moves_everywhere() -> None:
    random = np.random.default_rng(0)
    draws = torch.from_numpy(random.random((400, translate.DRAWS)))
    images = torch.ones(400, 1, 32, 32, requires_grad=True)
    moved = translate.augment(images, draws)
    moved.sum().backward()
    assert images.grad is not None and set(images.grad.unique().tolist()) <= {0.0, 1.0}
    assert (moved.mean(dim=0) > 0.2).all(), "some pixel is nearly always empty"
    assert (moved.mean(dim=0) < 1).all(), "some pixel is never cut"
