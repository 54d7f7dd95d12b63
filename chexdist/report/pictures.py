"""Puts a run's grids of images into the page: from their pixels alone, so that no metadata is copied."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from chexdist.errors import UserError

WIDEST = 1060
"""Pixels to which a wider grid is reduced, to keep the page's size in bounds."""
GAP, ACROSS = 2, 8
"""Pixels between the images of a grid, and images in a row of it."""
MOST_PIXELS = 2**25
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI. `reduced` when it has fewer pixels than the file."""

    uri: str
    width: int
    height: int
    reduced: bool


def embed(path: Path) -> Picture:
    """The picture, gray. Raises UserError as `read` does."""
    return embedded(read(path))


def read(path: Path) -> Image.Image:
    """The picture's pixels, gray.

    Raises:
        UserError: it is no PNG, is damaged, or has more pixels than any grid.
    """
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is not a plain file of at most {MOST_BYTES >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            return _decoded(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is damaged or no PNG: {error}") from None


def embedded(image: Image.Image) -> Picture:
    """The picture as it stands in the page."""
    reduced = image.width > WIDEST or image.height > WIDEST
    if reduced:
        image = image.copy()
        image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(uri, image.width, image.height, reduced)


def _decoded(path: Path) -> Image.Image:
    with Image.open(path, formats=["PNG"]) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise UserError(
                f"{path} has {opened.width} x {opened.height} pixels; a grid has at most {MOST_PIXELS}"
            )
        return opened.convert("L")


def tiles(grid: Image.Image, side: int) -> list[Image.Image]:
    """The images of a grid as `run.directory.draw_grid` draws it, row by row; none of another picture."""
    step = side + GAP
    across, rest = divmod(grid.width - GAP, step)
    down, below = divmod(grid.height - GAP, step)
    if rest or below or not 0 < across <= ACROSS or down < 1:
        return []
    corners = [(GAP + step * column, GAP + step * row) for row in range(down) for column in range(across)]
    return [grid.crop((x, y, x + side, y + side)) for x, y in corners]


def sheet(images: list[Image.Image], across: int, side: int) -> Image.Image:
    """Images in rows, each reduced to at most `side` pixels, without gaps."""
    side = min(side, images[0].width)
    whole = Image.new("L", (side * across, side * -(-len(images) // across)))
    for number, image in enumerate(images):
        small = image if image.width == side else image.resize((side, side), Image.Resampling.LANCZOS)
        whole.paste(small, (side * (number % across), side * (number // across)))
    return whole
