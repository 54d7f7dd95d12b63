"""Augmentation: brightness and contrast by hand, and which images are augmented at all."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.cases import BATCH, SIZE, Case
from torch import Tensor

from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.gan.augment import AUGMENTS, translate, translate_color
from chexdist.training.networks import Gan
from chexdist.training.schedule import Values
from chexdist.training.step import Step

MIDDLE = [0.5, 0.5, 0.0, 0.0]
"""Draws of `translate`: no shift, and a cutout whose corner is at -8, so that it covers 8 x 8 pixels."""


def halves(low: float, high: float) -> Tensor:
    """[1, 1, 32, 32]: the upper half of one value, the lower of another."""
    image = torch.full((1, 1, 32, 32), low, dtype=torch.float64)
    image[:, :, 16:] = high
    return image


@pytest.mark.parametrize(
    ("brightness", "contrast", "low", "high"),
    [
        (0.5, 0.5, -0.4, 0.6),  # in the middle: as it was; its mean is 0.1
        (0.0, 0.5, -0.65, 0.35),  # darker by 0.25
        (0.75, 0.5, -0.275, 0.725),  # brighter by 0.125
        (0.5, 0.0, -0.275, 0.475),  # 0.1 -+ 0.75 * 0.5
        (0.5, 1.0, -0.525, 0.725),  # 0.1 -+ 1.25 * 0.5
        (0.0, 1.0, -0.775, 0.475),
    ],
)
def test_exposure_by_hand(brightness: float, contrast: float, low: float, high: float) -> None:
    draws = torch.tensor([[brightness, contrast, *MIDDLE]], dtype=torch.float64)
    changed = translate_color.augment(halves(-0.4, 0.6), draws)[0, 0].numpy()
    np.testing.assert_array_equal(changed[:8, :8], 0.0)  # the cutout comes last, so it is mid-grey
    np.testing.assert_allclose(changed[:16, 8:], low)
    np.testing.assert_allclose(changed[16:], high)


def test_each_image_has_its_own_exposure_and_is_moved_as_by_translate() -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.uniform(-1, 1, (6, 1, 32, 32)))
    draws = torch.from_numpy(random.random((6, translate_color.DRAWS)))
    changed = translate_color.augment(images, draws)
    for image, draw, found in zip(images.numpy(), draws.numpy(), changed, strict=True):
        exposed = image.mean() + (image - image.mean()) * (0.75 + 0.5 * draw[1]) - 0.25 + 0.5 * draw[0]
        moved = translate.augment(torch.from_numpy(exposed)[None], torch.from_numpy(draw)[None, 2:])
        torch.testing.assert_close(found, moved[0])


def test_exposure_is_differentiable() -> None:
    """The gradient of the sum of a whole image: contrast leaves the mean as it is, so it is that of the
    identity, but for what the cutout takes away."""
    images = halves(-0.4, 0.6).requires_grad_()
    draws = torch.tensor([[0.1, 1.0, *MIDDLE]], dtype=torch.float64)
    translate_color.augment(images, draws).sum().backward()
    assert images.grad is not None
    lost = 64 / 1024  # of the mean, to which each pixel contributes; the rest is multiplied by 1.25
    np.testing.assert_allclose(images.grad[0, 0, 16:], 1.25 - 0.25 * (1 - lost))
    np.testing.assert_allclose(images.grad[0, 0, :8, :8], -0.25 * (1 - lost))


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return make_accelerator(World(rank=0, size=1, node=0, local_rank=0), timeout_seconds=60)


def make_step(accelerator: Any, name: str, probability: object) -> Step:
    settings = {"model.name": "vanilla", "loss.name": "hinge"}
    settings |= {"augment.name": name, "augment.probability": probability}
    return Step(
        Gan(Case("", settings).config(), (3, 1), accelerator),
        World(rank=0, size=1, node=0, local_rank=0),
    )


def changed_rows(step: Step, draw: Draw, t: int) -> list[bool]:
    """Which of a batch of images are not what they were; the augmentation changes any image."""
    images = torch.rand(BATCH, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(t)) + 1
    changed = step.augmented(images, t, range(BATCH), draw)
    return [not torch.equal(before, after) for before, after in zip(images, changed, strict=True)]


NAMES = [name for name in AUGMENTS if name != "none"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_augmented_where_its_draw_is_below_the_probability(name: str, accelerator: Any) -> None:
    """And which ones is a function of (seed, draw, batch, index) alone: another step says the same."""
    step, again = (make_step(accelerator, name, 0.4) for _ in range(2))
    augmentation = AUGMENTS[name]
    assert augmentation is not None
    found: list[bool] = []
    for t in range(40):
        draws = noise.uniform(7, Draw.AUGMENT_REAL, t, range(BATCH), augmentation.DRAWS + 1)
        expected = (draws[:, -1] < 0.4).tolist()
        assert changed_rows(step, Draw.AUGMENT_REAL, t) == expected
        assert changed_rows(again, Draw.AUGMENT_REAL, t) == expected
        found += expected
    assert changed_rows(step, Draw.AUGMENT_FAKE, 3) != changed_rows(step, Draw.AUGMENT_REAL, 3)
    assert abs(np.mean(found) - 0.4) < 4 * np.sqrt(0.4 * 0.6 / len(found))


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_of_0_and_1(name: str, accelerator: Any) -> None:
    """A constant of 1 takes no draw; a ramp that has come to 1 takes one, and augments every image too."""
    never, always = (make_step(accelerator, name, probability) for probability in (0, 1))
    ramp = make_step(accelerator, name, {"start": 0, "end": 1, "images": 10 * BATCH, "shape": "linear"})
    for t in range(20):
        assert changed_rows(never, Draw.AUGMENT_REAL, t) == [False] * BATCH
        assert changed_rows(always, Draw.AUGMENT_REAL, t) == [True] * BATCH
        ramp.values = Values.at(ramp.gan.config, 10 * BATCH)
        assert changed_rows(ramp, Draw.AUGMENT_REAL, t) == [True] * BATCH
        ramp.values = Values.at(ramp.gan.config, 0)
        assert changed_rows(ramp, Draw.AUGMENT_REAL, t) == [False] * BATCH


def test_an_image_that_is_left_alone_gets_its_whole_gradient(accelerator: Any) -> None:
    step = make_step(accelerator, "translate-color", 0.5)
    images = torch.rand(BATCH, 1, SIZE, SIZE).requires_grad_()
    step.augmented(images, 0, range(BATCH), Draw.AUGMENT_FAKE).sum().backward()
    left = [not changed for changed in changed_rows(step, Draw.AUGMENT_FAKE, 0)]
    assert images.grad is not None and 0 < sum(left) < BATCH
    assert (images.grad[left] == 1).all() and not (images.grad[[not one for one in left]] == 1).all()
