"""`python -m benchmarks copies --source DIR`: which planted copies the shard builder finds, by kind.

One kind at a time, copies of some images are put among all of the folder, and these and what they were made
of are looked for, each by itself, as a build does. All images are looked for once more without copies: for
links that nobody planted, and for the time, as a build does it with one worker and with two.
"""

import io
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chexdist.errors import UserError, WorkError
from shards.copies.fingerprint import fingerprint
from shards.copies.linking import linked
from shards.copies.nearest import Index
from shards.copies.search import search
from shards.pixels.fit import to_square
from shards.pixels.render import render_file
from shards.workers import Workers

SIDE = 256  # pixels of the images into which copies are planted
COLUMNS = ("found", "planted", "linked to others")
WORKERS = (1, 2)

Picture = Image.Image


@dataclass(frozen=True)
class Setting:
    """The folder of pictures, how many copies of each kind, and the pattern of patients in file names."""

    source: Path
    planted: int = 20
    patients: str | None = None


def _cropped(image: Picture, share: float) -> Picture:
    edge = round(image.width * share)
    return image.crop((edge, edge, image.width - edge, image.height - edge))


def _pasted(image: Picture, size: tuple[int, int], at: tuple[int, int], level: int = 0) -> Picture:
    canvas = Image.new("L", size, level)
    canvas.paste(image, at)
    return canvas


def _compressed(image: Picture) -> Picture:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def _turned(image: Picture, degrees: float) -> Picture:
    return image.rotate(degrees, Image.Resampling.BICUBIC)


def _mirrored(image: Picture) -> Picture:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _marked(image: Picture) -> Picture:
    marked = image.copy()
    marked.paste(255, (SIDE - 40, 0, SIDE, 40))
    return marked


KINDS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG at quality 40": _compressed,
    "half the size": lambda image: image.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS),
    "shifted by 5 px": lambda image: _pasted(image, image.size, (5, 5)),
    "turned by 3 degrees": lambda image: _turned(image, 3),
    "padded in black": lambda image: _pasted(image, (SIDE + 44, SIDE + 44), (22, 22)),
    "padded in white": lambda image: _pasted(image, (SIDE + 44, SIDE + 44), (22, 22), 255),
    "letterboxed": lambda image: _pasted(image, (SIDE, SIDE + 74), (0, 37)),
    "mirrored": _mirrored,
    "inverted": lambda image: image.point(lambda level: 255 - level),
    "gamma 0.6": lambda image: image.point(lambda level: round(255 * (level / 255) ** 0.6)),
    "cropped by 2.5 % on each side": lambda image: _cropped(image, 0.025),
    "cropped by 5 % on each side": lambda image: _cropped(image, 0.05),
    "cropped by 5 % on one side": lambda image: image.crop((round(SIDE * 0.05), 0, SIDE, SIDE)),
    "cropped by 5 % and mirrored": lambda image: _mirrored(_cropped(image, 0.05)),
    "turned by 3 degrees and cropped by 4 %": lambda image: _cropped(_turned(image, 3), 0.04),
    "1.3 times brighter, clipped": lambda image: image.point(lambda level: min(255, int(level * 1.3))),
    "a white marker of 40 px pasted into a corner": _marked,
}


@dataclass(frozen=True)
class Result:
    """What was found: copies by kind, links of copies to what they were not made of, links without copies."""

    setting: Setting
    images: int
    found: dict[str, int]
    others: dict[str, int]
    links: int
    wrong: int
    seconds: dict[int, float]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        rates = ", ".join(
            f"{1000 * seconds / self.images:.0f} ms an image with {count} worker{'s' * (count > 1)}"
            for count, seconds in self.seconds.items()
        )
        without = f"Without copies: {self.links} pairs of the {self.images} images are linked"
        return {
            "benchmark": "copies",
            **about,
            "unit": "near-duplicates found",
            "settings": {"images": self.images, "planted": self.setting.planted},
            "columns": list(COLUMNS),
            "rows": [
                {"name": kind, "cells": [str(found), str(self.setting.planted), str(self.others[kind])]}
                for kind, found in self.found.items()
            ],
            "notes": [
                f"{without}, {self.wrong} of them of two patients.",
                f"The search took {rates}.",
            ],
            "seconds": {str(count): seconds for count, seconds in self.seconds.items()},
        }


def measure(setting: Setting) -> Result:
    """Plant, look and count.

    Raises:
        UserError: there are too few pictures, one of them can't be used, or the pattern finds no patient.
        WorkError: another number of workers found other links.
    """
    files = sorted(path for path in setting.source.rglob("*") if path.is_file())
    if len(files) < setting.planted:
        raise UserError(
            f"--source {setting.source}: {len(files)} pictures; {setting.planted} or more are needed"
        )
    patients = [_patient(file, setting.patients) for file in files]
    pictures = {number: _read(file) for number, file in enumerate(files)}
    prints = np.stack([_print(picture) for picture in pictures.values()])
    chosen = np.linspace(0, len(files) - 1, setting.planted).astype(int)
    found, others = {}, {}
    for kind, change in KINDS.items():
        copies = np.stack([_print(change(pictures[number])) for number in chosen])
        planted = {(int(number), len(files) + at) for at, number in enumerate(chosen)}
        everything = np.concatenate([prints, copies])
        own = np.concatenate([chosen, np.arange(len(files), len(everything))])
        links = set(linked(Index.of(everything), everything, own))
        found[kind] = len(planted & links)
        others[kind] = sum(second >= len(files) for _, second in links - planted)
    seconds, answers = {}, []
    for count in WORKERS:
        with tempfile.TemporaryDirectory() as work, Workers(count) as workers:
            begun = time.perf_counter()
            answers.append(search(workers, Path(work) / "search", map(bytes, prints), len(prints)))
            seconds[count] = time.perf_counter() - begun
    if answers[0] != answers[1]:
        raise WorkError(f"{WORKERS[0]} worker and {WORKERS[1]} workers found other links")
    wrong = sum(patients[first] != patients[second] for first, second in answers[0])
    return Result(setting, len(files), found, others, len(answers[0]), wrong, seconds)


def _patient(file: Path, pattern: str | None) -> str:
    if pattern is None:
        return str(file)
    match = re.search(pattern, file.name)
    if not match or not match.groups():
        raise UserError(f"--patient-pattern {pattern!r} finds no patient in the file name {file.name!r}")
    return match[1]


def _read(file: Path) -> Picture:
    try:
        levels = to_square(render_file(str(file), SIDE).field, SIDE)
    except Exception as error:  # noqa: BLE001  a broken file ends in whatever its decoder raises
        raise UserError(f"{file} is no picture that can be used: {error}") from None
    return Image.fromarray(np.round(levels * 255).astype(np.uint8))


def _print(picture: Picture) -> np.ndarray:
    return fingerprint(np.asarray(picture, np.float32) / 255)
