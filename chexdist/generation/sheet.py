"""How synthetic X-rays are shown on a contact sheet: eight in a row, a heading for each class."""

import io

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


def draw(pictures: list[tuple[str | None, Pixels]], origin: str) -> bytes:
    """A gray PNG of (class or none, pixels), sorted by the classes' names; `origin` says what drew them."""
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
            tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (MARGIN + column * (TILE + GAP), top + row * (TILE + GAP)))
        top += -(-len(group) // COLUMNS) * (TILE + GAP)
    foot = height - MARGIN - CAPTION / 4
    pen.text(
        (MARGIN, foot), "synthetic chest X-rays: not patients", INK, ImageFont.load_default(20), anchor="lm"
    )
    pen.text((width - MARGIN, foot), origin, FAINT, ImageFont.load_default(16), anchor="rm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
