"""The audit's rule: which changed training images are found, how rarely another X-ray is taken for one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from chexdist.metrics.alignment import Gallery, aligned, detail, overlap, small, warped
from chexdist.metrics.memorisation import HIGH, LOW, likeness, threshold
from chexdist.metrics.planted import KINDS, planted


def chests(number: int, seed: int, size: int = 64) -> Tensor:
    """Images [number, 1, size, size] in [-1, 1]: one shape that all share, and details of their own."""
    draws = torch.Generator().manual_seed(seed)
    shared = functional.interpolate(
        torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4), (size, size), mode="bicubic", antialias=True
    )
    coarse, fine = (torch.randn(number, 1, side, side, generator=draws) for side in (12, 24))
    own = (
        functional.interpolate(each, (size, size), mode="bicubic", antialias=True) for each in (coarse, fine)
    )
    first, second = own
    return (0.5 * shared + 0.15 * first + 0.1 * second).clamp(-1, 1)


REAL = chests(180, 3)
TRAINING = REAL[:100]
GALLERY = Gallery(small(TRAINING))
FOUND = likeness(REAL, GALLERY, torch.eye(180, 100, dtype=torch.bool)).value
LIMIT = threshold(FOUND, 0.01)
SOME = TRAINING[::5]
NOISE = torch.randn(SOME.shape, generator=torch.Generator().manual_seed(4)) * 8 / 127.5
SHIFTED = torch.roll(SOME, (1, -1), (2, 3))
COPIES = {
    **{kind: planted(SOME, kind) for kind in KINDS},
    "itself": SOME,
    "rolled by an eighth": torch.roll(SOME, (-8, 8), (2, 3)),
    "brighter": (SOME * 1.05 + 0.05).clamp(-1, 1),
    "darker": SOME * 0.9 - 0.05,
    "another gamma": ((SOME + 1) / 2) ** 0.8 * 2 - 1,
    "blurred, shifted, brighter, noisy": (
        functional.avg_pool2d(SHIFTED, 3, 1, 1, count_include_pad=False) * 1.03 + NOISE
    ).clamp(-1, 1),
    "mirrored, inverted, turned": planted(-SOME.flip(3), "turned", seed=2),
    "other resolution": functional.interpolate(SOME, (128, 128), mode="bilinear"),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found(name: str) -> None:
    found = likeness(COPIES[name], GALLERY)
    assert (found.value > LIMIT.value).all(), found.value.min()
    assert found.index.tolist() == list(range(0, 100, 5))


def test_noise_is_reckoned_out() -> None:
    """A noisy copy is nearly as similar as a clean one, though the details alone correlate by 0.9 at most."""
    assert (likeness(COPIES["noisy"], GALLERY).value > 0.95).all()


@pytest.mark.parametrize("kind", ["turned", "scaled", "shifted"])
def test_black_around_a_copy_costs_nothing(kind: str) -> None:
    assert (likeness(COPIES[kind], GALLERY).value > 0.9985).all()


def test_strangers_are_taken_for_copies_as_rarely_as_stated() -> None:
    """150 fresh images: the share above the threshold is the stated one, within what chance allows."""
    assert LIMIT.images == 180 and 0 < LIMIT.rate < 0.011
    share = (likeness(chests(150, 5), GALLERY).value > LIMIT.value).float().mean()
    assert share < LIMIT.rate + 0.03


def by_hand(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The detail of one image [S, S] within a mask, sum by sum."""
    side = len(image)
    found = np.zeros_like(image)
    for row, column in np.argwhere(mask > 0):
        for sigma, sign in ((LOW, 1), (HIGH, -1)):
            square = (np.arange(side)[:, None] - row) ** 2 + (np.arange(side)[None] - column) ** 2
            weights = np.exp(-square / (2 * sigma**2)) * mask
            found[row, column] += sign * (weights * image).sum() / weights.sum()
    return found


def test_likeness_is_the_correlation_that_it_is_said_to_be() -> None:
    """Of pairs without noise, that are laid over each other already: between the details, by hand."""
    picture = small(TRAINING[:1])
    image = (picture + small(chests(1, 8)) * 0.3).clamp(0, 255).round()
    found = likeness(image / 127.5 - 1, GALLERY)
    still = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    mask = overlap(still, 64)[0, 0].double().numpy()
    ours, theirs = (by_hand(each[0, 0].double().numpy(), mask)[mask > 0] for each in (image, picture))
    assert found.index == 0
    assert float(found.value) == pytest.approx(np.corrcoef(ours, theirs)[0, 1], abs=0.01)


def test_what_is_around_a_copy_does_not_count() -> None:
    """The detail within a mask is the same, whatever there is outside."""
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10:50, 5:60] = 1
    other = torch.where(mask > 0, TRAINING[:1], -1.0)
    assert torch.allclose(detail(TRAINING[:1], mask, 1, 3), detail(other, mask, 1, 3), atol=1e-6)


def test_pictures_are_laid_over_each_other() -> None:
    """Angle, scale and shift are found to a fraction of a pixel from a start that is off by two."""
    angle, scale, x, y = math.radians(7), 1.08, 0.11, -0.07
    true = torch.tensor([[scale * math.cos(angle), scale * math.sin(angle), x, y]])
    pictures = small(TRAINING[:1])
    back = 1 / torch.complex(true[:, 0], true[:, 1])
    moved = -back * torch.complex(true[:, 2], true[:, 3])
    inverse = torch.stack([back.real, back.imag, moved.real, moved.imag], dim=1)
    image = warped(pictures, inverse, "bicubic")
    start = true + torch.tensor([[0.03, -0.02, 0.05, 0.04]])
    assert torch.allclose(aligned(image, pictures, start, 1.0, 3.0, 12), true, atol=3e-3)


def test_a_constant_picture_is_like_nothing() -> None:
    flat = torch.full((1, 1, 64, 64), 0.3)
    assert likeness(flat, GALLERY).value < 0.01
    assert likeness(TRAINING[:1], Gallery(small(flat))).value < 0.01


def test_excluded_pairs_do_not_count() -> None:
    excluded = torch.zeros(20, 100, dtype=torch.bool)
    assert (likeness(TRAINING[:20], GALLERY, excluded).value > 0.999).all()
    excluded[:, :20] = torch.eye(20, dtype=torch.bool)
    assert (likeness(TRAINING[:20], GALLERY, excluded).value < LIMIT.value + 0.05).all()
    assert not likeness(TRAINING[:20], GALLERY, torch.ones_like(excluded)).value.any()


@pytest.mark.parametrize("number", [1, 3])
def test_a_gallery_may_be_small(number: int) -> None:
    found = likeness(TRAINING[:number].flip(3), Gallery(small(TRAINING[:number])))
    assert (found.value > 0.99).all() and found.index.tolist() == list(range(number))


def test_images_beyond_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        likeness(TRAINING[:1] * 2, GALLERY)


def test_there_is_no_other_kind_of_copy() -> None:
    with pytest.raises(ValueError, match="sideways is no kind"):
        planted(SOME, "sideways")


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300),
    st.sampled_from([0.001, 0.01, 0.05, 0.5]),
)
def test_threshold_is_exceeded_by_few(values: list[float], rate: float) -> None:
    """Each value in turn against the threshold of the others: at most the stated share is above."""
    found = threshold(torch.tensor(values), rate)
    assert found.value in torch.tensor(values).tolist()
    assert found.rate <= max(rate, 1 / (len(values) + 1)) + 1e-9
    if len(values) > 1:
        tensor = torch.tensor(values)
        limits = [threshold(torch.cat([tensor[:i], tensor[i + 1 :]]), rate) for i in range(len(values))]
        above = sum(value > limit.value for value, limit in zip(tensor.tolist(), limits, strict=True))
        assert above <= limits[0].rate * len(values) + 1e-6


@pytest.mark.parametrize("values", [[], [0.5, float("nan")]])
def test_no_threshold_from_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no likeness"):
        threshold(torch.tensor(values))
