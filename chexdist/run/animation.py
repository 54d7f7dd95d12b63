"""How a run learned, as an animation: the same latents after more and more images.

It is made of the grids that training drew, so a run that was stopped and resumed has the whole way in it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from chexdist.errors import WorkError
from chexdist.run import layout
from chexdist.run.full_disk import naming
from shards.files import replace_file

FRAMES = 48
"""At most; of more grids as many from all over the training."""
WIDEST, FOOT = 560, 24
"""Pixels of a frame's width at most, and of the line below it."""
FRAME_MS, LAST_MS = 400, 3000
QUALITY = 80


def animate(run: Path) -> Path | None:
    """Write `samples/learning.webp`, the upper half of each grid, atomically; None where there is no grid.

    Raises:
        WorkError: a grid is damaged, or the folder can't be written.
    """
    grids = sorted(layout.samples(run).items())
    if not grids:
        return None
    chosen = np.linspace(0, len(grids) - 1, min(FRAMES, len(grids))).round().astype(int).tolist()
    frames = [_frame(*grids[number]) for number in chosen]
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    frames[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        quality=QUALITY,
    )
    path = layout.animation(run)
    with naming(path, len(buffer.getvalue())):
        replace_file(path, buffer.getvalue())
    return path


def _frame(images: int, path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            grid = opened.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WorkError(f"{path} is damaged: {error}; delete it, then the same command resumes") from None
    half = grid.crop((0, 0, grid.width, grid.height // 2))
    half.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
    frame = Image.new("L", (half.width, half.height + FOOT))
    frame.paste(half)
    said = f"synthetic, after {images:,} images"
    font = ImageFont.load_default(max(9, min(14, half.width // 20)))
    ImageDraw.Draw(frame).text((4, half.height + FOOT / 2), said, 200, font, anchor="lm")
    return frame
