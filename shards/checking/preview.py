"""What `preview` draws: a contact sheet that answers whether the data is right.

A row of pictures for each split and class; then those that may be inverted, those unlike the rest (see
`outliers`), those that may have text burnt in (see `burnt_text`), and how the gray levels of each split are
distributed.
"""

import io
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shards import manifest
from shards.checking.burnt_text import has_text
from shards.checking.outliers import SIDE, find_outliers
from shards.errors import UserError, WorkError
from shards.files import replacing
from shards.manifest import Manifest, Shard, Split
from shards.progress import Progress

TILE = 144  # pixels of the sheet
GAP = 6
MARGIN = 24
CAPTION = 36  # height
TITLE = 58  # height
FEWEST_COLUMNS = 6  # room for the captions
INVERTED, UNLIKE, WORDS = "perhaps inverted", "unlike the rest", "perhaps text"
MOST_ROWS = 60
MOST_LISTED = 20
MOST_SURVEYED = 20_000  # pictures, of which each takes milliseconds
BINS, HISTOGRAM = 32, 110  # ranges of gray levels, and pixels of height
MOST_CHARACTERS = 200  # of a caption
BACKGROUND, TEXT, FAINT = (17, 19, 23), (228, 231, 235), (142, 149, 158)
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_SIDE = 4096
MAX_PNG_BYTES = 2 * MAX_SIDE * MAX_SIDE + 2**20


@dataclass(frozen=True)
class Location:
    """Where a sample's picture is in the shards; its key, patient and checksum."""

    key: str
    patient: str
    shard: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class Row:
    """A split's images of one class, or outliers: how many there are, and which are shown."""

    split: str
    label: str
    total: int
    shown: list[Location]


@dataclass(frozen=True)
class Survey:
    """What was found in all pictures, or in MOST_SURVEYED of them: outliers, and gray levels by split.

    `outliers`: by what they are, each with its split and its likeness to the rest.
    `histograms`: the share of each of BINS ranges of gray levels.
    """

    looked_at: int
    outliers: dict[str, list[tuple[Location, str, float]]]
    histograms: dict[str, np.ndarray]


def preview(folder: Path, out: Path, per_class: int) -> int:
    """Draw the sheet and write it to `out`; returns the exit code 0.

    Raises UserError when `folder` is no shard directory or `out` can't be used, WorkError for damaged shards.
    """
    content = manifest.read(folder)
    _check_out(out)
    rows = choose(content, per_class)
    found = survey(folder, content)
    for what, outliers in found.outliers.items():
        rows.append(Row("all splits", what, len(outliers), [place for place, _, _ in outliers][:per_class]))
    sheet = draw(folder, content, rows, per_class, found)
    _write(sheet, out)
    print(f"{out}: {sum(len(row.shown) for row in rows[: -len(found.outliers)])} of {_total(content)} images")
    _tell(found)
    return 0


def _tell(found: Survey) -> None:
    """Print the outliers."""
    print(
        f"of {found.looked_at} images looked at, {len(found.outliers[INVERTED])} may be inverted, "
        f"{len(found.outliers[UNLIKE])} are unlike the rest (another view or part of the body, turned, "
        f"blank), {len(found.outliers[WORDS])} may have text burnt in"
    )
    for what, outliers in found.outliers.items():
        for place, split, likeness in outliers[:MOST_LISTED]:
            print(f"{what}: {place.shard} {place.key}.png ({split}; likeness {likeness:.2f})")
        if len(outliers) > MOST_LISTED:
            print(f"{what}: and {len(outliers) - MOST_LISTED} more")


def survey(folder: Path, content: Manifest) -> Survey:
    """Look at all pictures, or at MOST_SURVEYED of them at equal distances."""
    places = [
        (location, name)
        for name, split in content.splits.items()
        for label in range(len(content.classes))
        for location in _locations(split, label)
    ]
    step = -(-len(places) // MOST_SURVEYED) or 1
    places = places[::step]
    with_text: list[int] = []
    thumbnails = np.zeros((len(places), SIDE, SIDE), np.uint8)
    with Progress("preview", len(places), "images") as progress:
        for number, (location, _) in enumerate(places):
            image = read_picture(folder, location, content.render["size"])
            if has_text(image):
                with_text.append(number)
            thumbnails[number] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
            progress.advance()
    outliers = find_outliers(thumbnails)

    def listed(numbers: list[int]) -> list[tuple[Location, str, float]]:
        return [(*places[number], float(outliers.likeness[number])) for number in numbers]

    names = np.array([name for _, name in places])
    histograms = {
        name: np.histogram(thumbnails[names == name], BINS, (0, 256))[0]
        / max(1, (names == name).sum() * SIDE**2)
        for name in content.splits
        if (names == name).any()
    }
    groups = {INVERTED: outliers.inverted, UNLIKE: outliers.unlike, WORDS: with_text}
    return Survey(len(places), {what: listed(numbers) for what, numbers in groups.items()}, histograms)


def choose(content: Manifest, per_class: int) -> list[Row]:
    """For each split and class the samples with the smallest keys, one of each patient first."""
    rows = []
    for name, split in content.splits.items():
        for label, class_name in enumerate(content.classes):
            locations = sorted(_locations(split, label), key=lambda location: location.key)
            first = {location.patient: location.key for location in reversed(locations)}
            locations.sort(key=lambda location: first[location.patient] != location.key)
            rows.append(Row(name, class_name, len(locations), locations[:per_class]))
    return rows


def _locations(split: Split, label: int) -> Iterator[Location]:
    for shard in split.shards:
        for number in _numbers(shard, label):
            index = shard.index
            yield Location(
                index.key[number],
                index.patient[number],
                shard.file,
                index.offset[number],
                index.size[number],
                index.crc32[number],
            )


def _numbers(shard: Shard, label: int) -> list[int]:
    if len({len(column) for column in vars(shard.index).values()}) != 1:
        raise WorkError(f"manifest.json, {shard.file}: the columns of the index differ in length")
    return [number for number, own in enumerate(shard.index.label) if own == label]


def draw(
    folder: Path, content: Manifest, rows: list[Row], per_class: int, found: Survey | None = None
) -> Image.Image:
    """The sheet as an RGB picture; its last rows are the outliers, when there was a survey."""
    used = max([len(row.shown) for row in rows] + [min(per_class, FEWEST_COLUMNS)])
    width = 2 * MARGIN + used * (TILE + GAP) - GAP
    aside = rows[-len(found.outliers) :] if found else []
    rows = rows[: len(rows) - len(aside)]
    shown = rows[:MOST_ROWS] + aside
    heights = [CAPTION + (TILE + GAP if row.shown else 0) for row in shown]
    below = CAPTION + HISTOGRAM + MARGIN if found else 0
    sheet = Image.new("RGB", (width, TITLE + sum(heights) + below + MARGIN), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    render = content.render
    about = f"{_total(content)} images, {render['size']} x {render['size']} pixels, {render['bits']} bits"
    more = f"; {len(rows) - MOST_ROWS} more rows not shown" if len(rows) > MOST_ROWS else ""
    _caption(pen, 18, folder.resolve().name, about + more, width, 20)
    top = TITLE
    for row, height in zip(shown, heights, strict=True):
        count = f"{len(row.shown)} of {row.total}" if row.shown else "none"
        _caption(pen, top + 11, f"{row.split} / {row.label}", count, width, 16)
        for number, location in enumerate(row.shown):
            tile = _tile(read_picture(folder, location, render["size"]))
            sheet.paste(tile, (MARGIN + number * (TILE + GAP), top + CAPTION))
        top += height
    if found:
        _draw_histograms(pen, top, width, found)
    return sheet


def _draw_histograms(pen: ImageDraw.ImageDraw, top: int, width: int, found: Survey) -> None:
    """A panel for each split: gray levels from black to white, on one scale."""
    _caption(pen, top + 11, "gray levels", "black to white, by split; the ends are cut at the top", width, 16)
    names = list(found.histograms)
    room = (width - 2 * MARGIN - GAP * max(0, len(names) - 1)) // max(1, len(names))
    inner = [shares[1:-1].max() for shares in found.histograms.values()]
    most = max([*inner, 1 / BINS])
    for number, (name, shares) in enumerate(found.histograms.items()):
        left, bottom = MARGIN + number * (room + GAP), top + CAPTION + HISTOGRAM
        for bar, share in enumerate(shares.tolist()):
            height = round(min(1, share / most) * (HISTOGRAM - 20))
            x = left + bar * room // BINS
            pen.rectangle((x, bottom - height, left + (bar + 1) * room // BINS - 2, bottom), FAINT)
        pen.text((left, top + CAPTION), name, TEXT, ImageFont.load_default(14))


def _caption(pen: ImageDraw.ImageDraw, top: int, strong: str, faint: str, width: int, size: int) -> None:
    """A line of text: `strong`, cut where it is too long, and `faint` after it."""
    font = ImageFont.load_default(size)
    room = width - 2 * MARGIN - pen.textlength(faint, font) - 14
    if len(strong) > MOST_CHARACTERS or pen.textlength(strong, font) > room:
        lengths = range(MOST_CHARACTERS)
        end = bisect_right(lengths, room, key=lambda end: pen.textlength(f"{strong[:end]}…", font))
        strong = f"{strong[: max(0, end - 1)]}…"
    pen.text((MARGIN, top), strong, TEXT, font)
    pen.text((MARGIN + 14 + pen.textlength(strong, font), top), faint, FAINT, font)


def read_picture(folder: Path, location: Location, size: int) -> Image.Image:
    """A sample's picture as 8-bit gray. Raises WorkError that names the shard and the member."""
    where = f"{folder / location.shard}: {location.key}.png"
    is_name = os.path.basename(location.shard) == location.shard
    if not is_name or not 0 < location.size <= MAX_PNG_BYTES or size > MAX_SIDE:
        raise WorkError(
            f"{folder / manifest.FILE}: no sound entry for {location.key} in {location.shard[:80]!r}"
        )
    try:
        with open(folder / location.shard, "rb") as file:
            file.seek(location.offset)
            data = file.read(location.size)
    except (OSError, OverflowError, ValueError) as error:
        raise WorkError(f"can't read {where}: {getattr(error, 'strerror', None) or error}") from None
    if zlib.crc32(data) != location.crc32:
        raise WorkError(f"{where} is damaged: `chexdist-shards verify` lists all faults")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=["PNG"])
        if image.size != (size, size):
            raise WorkError(f"{where} is {image.width} x {image.height}, not {size} x {size} pixels")
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WorkError(f"{where} does not decode: {error}") from None
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    return image.convert("L")


def _tile(image: Image.Image) -> Image.Image:
    shrinks = image.width > TILE
    kernel = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    return image.resize((TILE, TILE), kernel)


def _total(content: Manifest) -> int:
    return sum(split.samples for split in content.splits.values())


def _check_out(out: Path) -> None:
    """Refuse to replace anything but an earlier sheet."""
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.absolute().parent}")
    if out.is_file():
        with open(out, "rb") as file:
            if file.read(len(PNG_MAGIC)) == PNG_MAGIC:
                return
    if out.exists() or out.is_symlink():
        raise UserError(f"--out {out} exists and is not a PNG file: choose another name")


def _write(sheet: Image.Image, out: Path) -> None:
    with replacing(out) as temporary:
        sheet.save(temporary, "PNG")
