"""The audit's rule: which changed training images are found, how rarely another X-ray is taken for one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from chexdist.metrics.memorisation import BLUR, POOL, SHIFT, SIDE, fingerprints, likeness, threshold


def chests(number: int, seed: int, size: int = 64) -> Tensor:
    """Images [number, 1, size, size] in [-1, 1]: one shape that all share, and details of their own."""
    draws = torch.Generator().manual_seed(seed)
    shared = functional.interpolate(
        torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4), (size, size), mode="bicubic", antialias=True
    )
    details = torch.randn(number, 1, 12, 12, generator=draws)
    own = functional.interpolate(details, (size, size), mode="bicubic", antialias=True)
    return (0.5 * shared + 0.2 * own).clamp(-1, 1)


def by_hand(image: np.ndarray, reference: np.ndarray) -> float:
    """The definition, for one pair of images [SIDE, SIDE], sum by sum."""

    def detail(pixels: np.ndarray) -> np.ndarray:
        blurred = np.zeros_like(pixels)
        weights = np.array(
            [[np.exp(-((i - j) ** 2) / (2 * BLUR**2)) for j in range(SIDE)] for i in range(SIDE)]
        )
        weights /= weights.sum(1, keepdims=True)
        for i in range(SIDE):
            for j in range(SIDE):
                blurred[i, j] = (np.outer(weights[i], weights[j]) * pixels).sum()
        return pixels - blurred

    def window(pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        side = SIDE - 2 * SHIFT
        part = pixels[top : top + side, left : left + side]
        return part.reshape(side // POOL, POOL, side // POOL, POOL).mean((1, 3)).ravel()

    ours, theirs = detail(image), window(detail(reference), SHIFT, SHIFT)
    places = range(2 * SHIFT + 1)
    return max(np.corrcoef(window(ours, top, left), theirs)[0, 1] for top in places for left in places)


def test_likeness_is_what_it_is_said_to_be() -> None:
    images, references = chests(3, 1), chests(2, 2)
    found = likeness(images, fingerprints(references))
    for image, value in zip(images, found, strict=True):
        expected = max(
            by_hand(image[0].double().numpy(), reference[0].double().numpy()) for reference in references
        )
        assert value == pytest.approx(expected, abs=1e-4)


REAL = chests(700, 3)
TRAINING = REAL[:300]
REFERENCES = fingerprints(TRAINING)
FOUND = likeness(REAL, REFERENCES, torch.eye(700, 300, dtype=torch.bool))
LIMIT = threshold(FOUND)
NOISE = torch.randn(TRAINING.shape, generator=torch.Generator().manual_seed(4)) * 8 / 127.5
SHIFTED = torch.roll(TRAINING, (1, -1), (2, 3))
COPIES = {
    "itself": TRAINING,
    "shifted by a pixel": SHIFTED,
    "shifted by a twentieth": torch.roll(TRAINING, (-3, 3), (2, 3)),
    "brighter": TRAINING * 1.05 + 0.05,
    "darker": TRAINING * 0.9 - 0.05,
    "another gamma": ((TRAINING + 1) / 2) ** 0.8 * 2 - 1,
    "noise": TRAINING + NOISE,
    "all at once": functional.avg_pool2d(SHIFTED, 3, 1, 1, count_include_pad=False) * 1.03 + NOISE,
    "other resolution": functional.interpolate(TRAINING, (128, 128), mode="bilinear"),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found(name: str) -> None:
    assert (likeness(COPIES[name], REFERENCES) > LIMIT.value).all()


def test_shifts_are_undone() -> None:
    """By up to 3 of 64 pixels; what is left is what came in at the border."""
    for rows, columns in ((0, 1), (2, 0), (3, -3), (-3, 3)):
        assert (likeness(torch.roll(TRAINING, (rows, columns), (2, 3)), REFERENCES) > 0.9).all()
    assert (likeness(torch.roll(TRAINING, (6, 0), (2, 3)), REFERENCES) < 0.9).all()


def test_strangers_are_taken_for_copies_as_rarely_as_stated() -> None:
    """1,500 fresh images: the share above the threshold is the stated one, within what chance allows."""
    assert LIMIT.images == 700 and LIMIT.rate == pytest.approx(0.01, abs=1e-3)
    share = (likeness(chests(1500, 5), REFERENCES) > LIMIT.value).float().mean()
    # a standard error of 0.4 % from the 700 images behind the threshold, and 0.3 % from these
    assert 0 < share < LIMIT.rate + 0.015


def test_a_constant_picture_is_like_nothing() -> None:
    flat = torch.full((1, 1, 64, 64), 0.3)
    assert likeness(flat, REFERENCES).abs() < 0.01


def test_excluded_pairs_do_not_count() -> None:
    excluded = torch.zeros(300, 300, dtype=torch.bool)
    assert (likeness(TRAINING, REFERENCES, excluded) > 0.999).all()
    assert (likeness(TRAINING, REFERENCES, excluded.fill_diagonal_(True)) < 0.95).all()


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
