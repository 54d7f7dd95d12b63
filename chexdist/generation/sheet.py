"""How synthetic X-rays are shown side by side: on a contact sheet with headings, or as a bare grid."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Pixels = np.ndarray
"""uint8 [S, S]"""

COLUMNS = 8
MOST = 64
"""Pictures on a sheet at most; more would be too small to look at."""

TILE, GAP, MARGIN = 128, 4, 24
HEADING, CAPTION = 40, 48
PAPER, INK, FAINT = 16, 235, 150  # gray levels: X-rays are read on a dark screen


def draw(pictures: Sequence[tuple[str | None, Pixels | None]], origin: str) -> Image.Image:
    """Gray, eight (class or none, pixels) in a row, sorted by the classes' names; where there are no pixels,
    an empty tile. `origin` says what drew them.
    """
    classes = sorted({label for label, _ in pictures}, key=str)
    groups = [(label, [pixels for name, pixels in pictures if name == label]) for label in classes]
    rows = sum(-(-len(group) // COLUMNS) for _, group in groups)
    headings = sum(label is not None for label, _ in groups)
    width = 2 * MARGIN + COLUMNS * (TILE + GAP) - GAP
    height = 2 * MARGIN + rows * (TILE + GAP) + headings * HEADING + CAPTION
    sheet = Image.new("L", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = MARGIN
    for label, group in groups:
        if label is not None:
            pen.text((MARGIN, top + HEADING / 2), label, INK, ImageFont.load_default(20), anchor="lm")
            top += HEADING
        for number, pixels in enumerate(group):
            row, column = divmod(number, COLUMNS)
            corner = MARGIN + column * (TILE + GAP), top + row * (TILE + GAP)
            if pixels is None:
                empty(pen, corner, TILE)
            else:
                tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
                sheet.paste(tile, corner)
        top += -(-len(group) // COLUMNS) * (TILE + GAP)
    foot = height - MARGIN - CAPTION / 4
    pen.text(
        (MARGIN, foot), "synthetic chest X-rays: not patients", INK, ImageFont.load_default(20), anchor="lm"
    )
    pen.text((width - MARGIN, foot), origin, FAINT, ImageFont.load_default(16), anchor="rm")
    return sheet


def empty(pen: ImageDraw.ImageDraw, corner: tuple[int, int], side: int) -> None:
    """The outline of a picture that was left out and, where there is room, why."""
    left, top = corner
    pen.rectangle((left, top, left + side - 1, top + side - 1), outline=FAINT)
    if side >= 64:
        middle, font = (left + side / 2, top + side / 2), ImageFont.load_default(side // 8)
        pen.text(middle, "near-copy\nleft out", FAINT, font, anchor="mm", align="center")


def tiled(pictures: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Pictures of one size and type, row by row, a black line of 1/32 of their side between them."""
    side = pictures[0].shape[0]
    step, rows = side + side // 32, len(pictures) // columns
    whole = np.zeros((rows * step - side // 32, columns * step - side // 32), pictures[0].dtype)
    for number, pixels in enumerate(pictures):
        row, column = divmod(number, columns)
        whole[row * step : row * step + side, column * step : column * step + side] = pixels
    return Image.fromarray(whole)
