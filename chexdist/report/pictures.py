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
    """The picture, gray.

    Raises:
        UserError: it is no PNG, is damaged, or has more pixels than any grid.
    """
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is not a plain file of at most {MOST_BYTES >> 20} MiB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            image = _decoded(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is damaged or no PNG: {error}") from None
    reduced = image.width > WIDEST or image.height > WIDEST
    if reduced:
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
