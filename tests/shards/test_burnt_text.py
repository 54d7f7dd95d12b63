"""The detector of burnt-in text: lines of letters are seen on films, films and single markers are not."""

import numpy as np
import pytest
from helpers.phantom_films import films
from PIL import Image, ImageDraw, ImageFont

from shards.checking.burnt_text import Patch, has_text, patches

TEXTS = ("DOE JANE 1951", "SMITH, ROBERT", "ID 7700123", "2022-07-03 14:12")


@pytest.fixture(scope="module")
def phantoms() -> list[Image.Image]:
    pixels, _ = films(range(12))
    levels = ((pixels[:, 0].numpy() + 1) * 127.5).astype(np.uint8)
    return [Image.fromarray(film).resize((256, 256), Image.Resampling.BICUBIC) for film in levels]


def written(film: Image.Image, text: str, size: int, level: int) -> Image.Image:
    film = film.copy()
    box = ImageDraw.Draw(film)
    box.rectangle((0, 0, 160, size + 8), 10)  # a dark corner
    box.text((6, 3), text, level, ImageFont.load_default(size))
    return film


@pytest.mark.parametrize("size", [8, 12, 16])
@pytest.mark.parametrize("level", [255, 180])
def test_lines_of_letters_are_seen(phantoms: list[Image.Image], size: int, level: int) -> None:
    found = [has_text(written(film, TEXTS[n % 4], size, level)) for n, film in enumerate(phantoms)]
    assert sum(found) >= 0.75 * len(found)


def test_films_blanks_and_single_markers_are_not(phantoms: list[Image.Image]) -> None:
    assert sum(map(has_text, phantoms)) <= 1
    assert sum(has_text(written(film, "L", 20, 255)) for film in phantoms) <= 1
    assert not has_text(Image.new("L", (64, 64), 9))
    assert not has_text(Image.new("L", (8, 8), 255))


def test_patches_are_the_connected_components() -> None:
    mask = np.zeros((6, 8), bool)
    mask[0, 0] = mask[1, 1] = True  # by a corner
    mask[3:6, 4] = mask[5, 4:8] = mask[3, 6:8] = True  # two
    assert sorted(patches(mask)) == [Patch(0, 0, 2, 2, 2), Patch(3, 4, 6, 8, 6), Patch(3, 6, 4, 8, 2)]
