"""Decides which pictures of a run are shown: of its newest evaluation by class, or else of training; of fixed
latents over training; and between latents. Real X-rays come only from files that hold them, when asked for.
"""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from chexdist.report.collect import RunRecord, classes
from chexdist.report.copies import audited
from chexdist.report.files import tidy
from chexdist.report.numbers import count, short_count
from chexdist.report.pictures import Picture, embed, embedded, read, sheet, tiles
from chexdist.run import layout

MOST_CLASSES = 6
FEW_RUNS = 3
"""Of more runs, pictures show fewer images each, so that a page stays one that can be sent."""
ACROSS, TILE, LARGEST = 8, 96, 4096
ROWS_OF_A_CLASS = 2


@dataclass(frozen=True)
class Figure:
    """A picture and its words. `run` is None for real X-rays; `position` in the row: alone, first or next;
    `columns`: a word above each column of the picture.
    """

    run: int | None
    position: str
    caption: str
    alt: str
    picture: Picture
    columns: tuple[str, ...] = ()


def at_a_glance(runs: list[RunRecord], with_real: bool) -> list[Figure]:
    """The first images of each run's newest samples, after as many real X-rays where those are shown."""
    rows = 2 if len(runs) <= FEW_RUNS else 1
    found = []
    for path, whose in _real_files(runs).items() if with_real else ():
        if shown := images_of(path, runs[whose[0]])[: ACROSS * rows]:
            picture = embedded(sheet(shown, ACROSS, TILE))
            caption = f"of the training split{_named(whose, runs)}"
            found.append(Figure(None, "next", caption, f"Real chest X-rays {caption}", picture))
    for number, run in enumerate(runs):
        images, file = max(layout.samples(run.path).items(), default=(0, None))
        shown = images_of(file, run)[: ACROSS * rows] if file else []
        if not shown:
            images, shown = _of_evaluation(run, ACROSS * rows)
        if shown:
            caption = f"after {count(images)} images"
            alt = f"Synthetic chest X-rays drawn by {run.name} {caption}"
            found.append(Figure(number, "next", caption, alt, embedded(sheet(shown, ACROSS, TILE))))
    return found


def _of_evaluation(run: RunRecord, most: int) -> tuple[int, list[Image.Image]]:
    """Images of the newest evaluation, as many of each class."""
    images, grids = _grids(run)
    of_class = [images_of(path, run)[: max(1, most // len(grids))] for path, _ in grids]
    return images, [tile for tiles_of_class in of_class for tile in tiles_of_class]


def over_time(runs: list[RunRecord]) -> list[Figure]:
    """The same latents after successive numbers of images, from left to right; a row for each latent."""
    rows = 4 if len(runs) == 1 else 3 if len(runs) <= FEW_RUNS else 1
    found = []
    for number, run in enumerate(runs):
        files = sorted(layout.samples(run.path).items())
        columns = [
            (images, shown[:rows])
            for images, path in _spread(files, ACROSS)
            if (shown := images_of(path, run))
        ]
        if len(columns) < 2 or len({len(shown) for _, shown in columns}) > 1:
            continue
        in_rows = [shown[row] for row in range(len(columns[0][1])) for _, shown in columns]
        words = tuple(short_count(images) for images, _ in columns)
        alt = f"Synthetic chest X-rays drawn by {run.name} from equal latents after {', '.join(words)} images"
        picture = embedded(sheet(in_rows, len(columns), TILE))
        found.append(Figure(number, "next", "", alt, picture, words))
    return found


def _spread(files: list[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(files) <= most:
        return files
    return [files[round(index * (len(files) - 1) / (most - 1))] for index in range(most)]


def figures(runs: list[RunRecord], with_real: bool) -> list[Figure]:
    """Generated images of every run, after real ones where the reader wants those and a run has them.

    Only files that hold generated images by their name are opened, so that no real X-ray gets in by itself.
    """
    found = _real(runs) if with_real else []
    for number, run in enumerate(runs):
        shown = _generated(run)
        for index, (path, images, what) in enumerate(shown):
            picture, fewer = _embedded(path, run, len(runs))
            position = "first" if len(shown) > 1 and index == 0 else "next"
            caption = f"{what}, after {count(images)} images{fewer}{_reduced(picture)}"
            alt = f"A grid of synthetic chest X-rays drawn by {run.name}: {caption}"
            found.append(Figure(number, position, caption, alt, picture))
    return found


def interpolations(runs: list[RunRecord]) -> list[Figure]:
    """What lies between two latents, by the newest evaluation that has it."""
    found = []
    for number, run in enumerate(runs):
        for evaluation in reversed(run.evaluations):
            path = layout.interpolation(evaluation.folder)
            if path.exists():
                shown = images_of(path, run)
                rows = len(shown) if len(runs) <= FEW_RUNS else ACROSS
                picture = embedded(sheet(shown[:rows], ACROSS, TILE)) if shown else embed(path)
                caption = f"after {count(evaluation.images)} images"
                alt = f"Rows of synthetic chest X-rays drawn by {run.name}, from one latent to another"
                found.append(Figure(number, "next", caption, alt, picture))
                break
    return found


def closest_pairs(runs: list[RunRecord]) -> list[Figure]:
    """Generated images beside the training images that they are most similar to: real X-rays."""
    found = []
    for number, run in enumerate(runs):
        evaluation = audited(run)
        path = layout.closest(evaluation.folder) if evaluation else None
        if evaluation and path and path.exists():
            picture = embed(path)
            caption = f"after {count(evaluation.images)} images; most similar pair first{_reduced(picture)}"
            alt = f"Pairs of a synthetic chest X-ray drawn by {run.name} and a real one of the training split"
            found.append(Figure(number, "next", caption, alt, picture))
    return found


def _embedded(path: Path, run: RunRecord, runs: int) -> tuple[Picture, str]:
    """A grid, whole or its first rows, and what the caption says of that."""
    shown = images_of(path, run) if runs > FEW_RUNS else []
    first = shown[: ACROSS * ROWS_OF_A_CLASS]
    if len(first) == len(shown):
        return embed(path), ""
    return embedded(sheet(first, ACROSS, TILE)), f", the first {len(first)} of {len(shown)}"


def images_of(path: Path, run: RunRecord) -> list[Image.Image]:
    """The images of a grid of this run; none where it is not what a run draws."""
    side = run.settings.get("model.size", "")
    if not (path.exists() and side.isascii() and side.isdecimal() and 0 < int(side[:5]) <= LARGEST):
        return []
    return tiles(read(path), int(side[:5]))


def _generated(run: RunRecord) -> list[tuple[Path, int, str]]:
    """Files with their number of images and what is in them."""
    images, path = max(layout.samples(run.path).items(), default=(0, None))
    newest = (path, images) if path else None
    if run.evaluations and (newest is None or run.evaluations[-1].images >= newest[1]):
        evaluated, found = _grids(run)
        if found:
            return [(path, evaluated, what) for path, what in found[:MOST_CLASSES]]
    return [(*newest, "samples while training")] if newest else []


def _grids(run: RunRecord) -> tuple[int, list[tuple[Path, str]]]:
    """The grids of the newest evaluation: each with what is in it."""
    if not run.evaluations:
        return 0, []
    evaluation = run.evaluations[-1]
    whole = layout.evaluation_grid(evaluation.folder, None)
    names = [name for name in classes(evaluation) if Path(name).name == name]
    paths = [(layout.evaluation_grid(evaluation.folder, name), f"class {tidy(name)}") for name in names]
    if whole.exists():  # an unconditional model: no image is of a class
        paths = [(whole, "unconditional")]
    return evaluation.images, [(path, what) for path, what in paths if path.exists()]


def _real_files(runs: list[RunRecord]) -> dict[Path, list[int]]:
    """Runs on the same shards have the same real X-rays: each such picture once, with its runs."""
    by_content: dict[bytes, tuple[Path, list[int]]] = {}
    for number, run in enumerate(runs):
        path = layout.real_samples(run.path)
        if path.exists():
            _, whose = by_content.setdefault(read(path).tobytes(), (path, []))
            whose.append(number)
    return dict(by_content.values())


def _real(runs: list[RunRecord]) -> list[Figure]:
    found = []
    for path, whose in _real_files(runs).items():
        picture, fewer = _embedded(path, runs[whose[0]], len(runs))
        caption = f"training split{_named(whose, runs)}{fewer}{_reduced(picture)}"
        found.append(Figure(None, "alone", caption, f"A grid of real chest X-rays of the {caption}", picture))
    return found


def _named(whose: list[int], runs: list[RunRecord]) -> str:
    names = ", ".join(runs[number].name for number in whose)
    return "" if len(whose) == len(runs) else f", shown to {names}"


def _reduced(picture: Picture) -> str:
    return ", reduced for this page" if picture.reduced else ""
