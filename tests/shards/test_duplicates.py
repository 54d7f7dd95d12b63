"""Near-duplicates: planted copies of every kind are found, and other pictures are not taken for copies."""

from collections.abc import Callable

import numpy as np
import pytest
from helpers.xray_files import smooth
from PIL import Image

from shards.copies import nearest
from shards.copies.fingerprint import fingerprint
from shards.copies.linking import pairs, pairs_between
from shards.pixels.fit import Field
from shards.report import report_near_copies
from shards.sources.listing import Source

PICTURES = 20


def film(seed: int) -> Image.Image:
    """What all pictures have in common, with detail of their own at two scales."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    shared = np.exp(-2 * (rows**2 + columns**2))
    grain = Image.fromarray(np.random.default_rng(seed + 99).random((32, 32)))
    fine = np.asarray(grain.resize((256, 256), Image.Resampling.BICUBIC)).clip(0, 1)
    field = 0.55 * shared + 0.25 * smooth(seed, 256, 256) + 0.2 * fine
    return Image.fromarray((field * 255).astype(np.uint8))


def cropped(image: Image.Image, share: float) -> Image.Image:
    edge = round(image.width * share)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


def pasted(image: Image.Image, size: tuple[int, int], at: tuple[int, int]) -> Image.Image:
    canvas = Image.new("L", size)
    canvas.paste(image, at)
    return canvas


def pasted_over(image: Image.Image, side: int) -> Image.Image:
    marked = image.copy()
    marked.paste(255, (8, 8, 8 + side, 8 + side))
    return marked


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "scaled": lambda image: image.resize((100, 100)),
    "cropped by 2.5 %": lambda image: cropped(image, 0.025),
    "cropped by 5 %": lambda image: cropped(image, 0.05),
    "shifted": lambda image: pasted(image, (256, 256), (5, 5)),
    "turned": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
    "padded": lambda image: pasted(image, (300, 300), (22, 22)),
    "letterboxed": lambda image: pasted(image, (256, 330), (0, 37)),
    "brighter": lambda image: image.point(lambda level: min(255, int(level * 1.2))),
    "much brighter": lambda image: image.point(lambda level: min(255, int(level * 1.6))),
    "with a marker": lambda image: pasted_over(image, 40),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "inverted": lambda image: image.point(lambda level: 255 - level),
}


def printed(image: Image.Image) -> np.ndarray:
    field: Field = np.asarray(image, np.float32) / 255
    return fingerprint(field)


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [film(seed) for seed in range(PICTURES)]


def test_different_pictures_are_no_copies(originals: list[Image.Image]) -> None:
    assert pairs(np.stack([printed(image) for image in originals])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_planted_copies_are_found(kind: str, originals: list[Image.Image]) -> None:
    images = originals + [KINDS[kind](image) for image in originals]
    found = pairs(np.stack([printed(image) for image in images]))
    planted = {(number, PICTURES + number) for number in range(PICTURES)}
    assert len(planted & set(found)) >= PICTURES - 1
    assert set(found) <= planted


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_found_in_what_is_held(kind: str, originals: list[Image.Image]) -> None:
    """Whichever of the two is the changed one."""
    prints = np.stack([printed(image) for image in originals])
    changed = np.stack([printed(KINDS[kind](image)) for image in originals[: PICTURES // 2]])
    for new, held in ((changed, prints), (prints, changed)):
        found = pairs_between(new, held)
        assert len(found) >= PICTURES // 2 - 1 and all(a == b for a, b in found)


def test_an_index_of_many_cells_finds_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    some = rng.normal(size=(300, 40)).astype(np.float32)  # of 40 dimensions, as pictures have few
    gallery = np.concatenate([some, some + 0.2 * rng.normal(size=some.shape)]).astype(np.float32)
    gallery = gallery @ rng.normal(size=(40, 256)).astype(np.float32)
    gallery[400:500] *= -1  # inverted copies
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    monkeypatch.setattr(nearest, "EXACT", 100)
    own = np.arange(600)
    near, size = nearest.Index.of_descriptors(gallery, [gallery]).nearest(gallery, own, 3)
    assert (near[:, 0] == (own + 300) % 600).mean() > 0.99
    assert (np.abs(size[:, 0]) > 0.9).mean() > 0.99 and not (near == own[:, None]).any()


def test_a_constant_picture_is_a_copy_of_none() -> None:
    assert pairs(np.stack([printed(Image.new("L", (64, 64), level)) for level in (0, 100, 200)])) == []


def test_copies_under_two_patients_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    images = [Source(0, f"{name}.png", "", "a") for name in "abc"]
    report_near_copies(images, ["1", "2", "1"], [(0, 1), (0, 2)])
    said = capsys.readouterr().err
    assert "2 pairs of images are near-duplicates" in said
    assert "1 of these pairs are of two patients: 'a.png' and 'b.png'" in said
