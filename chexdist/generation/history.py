"""How a run's generator learned, as an animation: the same latents after more and more images."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from chexdist.errors import UserError, WorkError
from chexdist.evaluation.copies import Audit
from chexdist.generation import sheet
from chexdist.generation.judged import Judged, judged, memorised
from chexdist.generation.pictures import STATEMENT
from chexdist.generation.produce import Made, origin_of
from chexdist.run import layout
from chexdist.run.trained import Loaded
from shards.progress import Progress

ROWS, COLUMNS, EDGE = 4, 8, 2
"""Of a picture of samples the first rows are shown; it has eight pictures in a row, EDGE pixels between."""
FRAMES = 60
TILE = 128
"""Side of a picture in the animation at most: a GIF has no compression worth the name."""
FRAME_MS, LAST_MS = 400, 3000


@dataclass(frozen=True)
class Frame:
    images: int
    pictures: list[Judged]


def history(loaded: Loaded, audit: Audit | None) -> tuple[bytes, int, Made]:
    """A GIF, the number of its frames, and what the audit found: near-copies are left out of every frame.

    Raises:
        UserError: as `sampled` does.
        WorkError: a picture of samples is damaged, or most of what is on them are near-copies.
    """
    there = sampled(loaded)
    chosen = np.linspace(0, len(there) - 1, min(FRAMES, len(there))).round().astype(int).tolist()
    frames = []
    with Progress("reading samples", len(chosen), "pictures") as progress:
        for images, path in (there[number] for number in chosen):
            tiles = _tiles(path, loaded.config.model.size)
            unlabelled: list[str | None] = [None] * len(tiles)
            frames.append(Frame(images, list(judged(tiles, range(len(tiles)), unlabelled, 8, audit))))
            progress.advance(1)
    drawn = [picture for frame in frames for picture in frame.pictures]
    made = Made(len(drawn), sum(picture.copied for picture in drawn))
    if 2 * made.kept < made.drawn:
        raise memorised(made.near_copies, made.drawn, "pictures of samples")
    model = loaded.config.model
    seed = loaded.config.train.seed
    said = ", ".join(f"{key} {value}" for key, value in origin_of(loaded, seed, 1.0).facts().items())
    audited = f"{made.near_copies} near-copies left out" if audit else "not audited"
    drawings = [_draw(frame, f"{model.name}, {model.size} px") for frame in frames]
    buffer = io.BytesIO()
    drawings[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=drawings[1:],
        duration=[FRAME_MS] * (len(drawings) - 1) + [LAST_MS],
        loop=0,
        comment=f"{STATEMENT}. {said}, {audited}".encode(),
    )
    return buffer.getvalue(), len(frames), made


def sampled(loaded: Loaded) -> list[tuple[int, Path]]:
    """The pictures of samples by the images after which training drew them.

    Raises:
        UserError: there is no run directory, or none in it.
    """
    if loaded.run is None:
        raise UserError(
            "--history needs the whole run directory: it is made from the samples of its training"
        )
    there = sorted(layout.samples(loaded.run).items())
    if not there:
        raise UserError(f"{loaded.run} has no pictures of samples: its training has not drawn any yet")
    return there


def _tiles(path: Path, size: int) -> torch.Tensor:
    """The first pictures of a picture of samples, [N, 1, size, size] in [-1, 1].

    Raises:
        WorkError: it is damaged, or of another size.
    """
    step = size + EDGE
    try:
        with Image.open(path, formats=["PNG"]) as image:
            rows = (image.height - EDGE) // step
            if image.size != (COLUMNS * step + EDGE, rows * step + EDGE) or not 1 <= rows <= COLUMNS:
                raise WorkError(f"{path} is {image.width} x {image.height}: no samples of {size} px")
            whole = np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WorkError(f"{path} is damaged: {error}") from None
    cut = [
        whole[row * step + EDGE : (row + 1) * step, column * step + EDGE : (column + 1) * step]
        for row in range(min(rows, ROWS))
        for column in range(COLUMNS)
    ]
    return torch.from_numpy(np.stack(cut)).float()[:, None] / 127.5 - 1


def _draw(frame: Frame, model: str) -> Image.Image:
    side = min(TILE, frame.pictures[0].pixels.shape[0])
    rows, foot = -(-len(frame.pictures) // COLUMNS), 40
    width, height = COLUMNS * (side + sheet.GAP), rows * (side + sheet.GAP)
    image = Image.new("L", (width + sheet.GAP, height + sheet.GAP + foot), sheet.PAPER)
    pen = ImageDraw.Draw(image)
    for number, picture in enumerate(frame.pictures):
        row, column = divmod(number, COLUMNS)
        corner = sheet.GAP + column * (side + sheet.GAP), sheet.GAP + row * (side + sheet.GAP)
        if picture.copied:
            sheet.empty(pen, corner, side)
        else:
            image.paste(
                Image.fromarray(picture.pixels).resize((side, side), Image.Resampling.LANCZOS), corner
            )
    font = ImageFont.load_default(max(9, min(16, width // 34)))
    said = f"synthetic chest X-rays: not patients\n{model}, after {frame.images:,} images"
    pen.text((sheet.GAP, height + sheet.GAP + foot / 2), said, sheet.INK, font, anchor="lm")
    return image
