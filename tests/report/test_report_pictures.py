"""Which pictures a page shows: over time, between latents, and real X-rays only when asked for."""

from pathlib import Path

import numpy as np
from helpers.full_runs import LIKENESS, SIDE, drawn, evaluate_fully
from helpers.html_page import Page
from helpers.run_files import MakeRun
from PIL import Image

from chexdist.__main__ import main
from chexdist.report.collect import collect
from chexdist.report.samples import at_a_glance, over_time


def tiles_of(picture: Image.Image, side: int = SIDE) -> list[bytes]:
    """The images of a picture without gaps, row by row."""
    pixels = np.asarray(picture)
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    assert pixels.shape == (rows * side, columns * side)
    return [
        pixels[y * side : (y + 1) * side, x * side : (x + 1) * side].tobytes()
        for y in range(rows)
        for x in range(columns)
    ]


def report(out: Path, *runs: Path, real: bool) -> Page:
    words = ["--with-real"] if real else []
    assert main(["report", *map(str, runs), "--out", str(out), *words]) == 0
    return Page(out.read_text(encoding="utf-8"))


def picture_of(page: Page, alt: str) -> Image.Image:
    """The one picture whose words begin so."""
    words = [attributes["alt"] or "" for tag, attributes in page.tags if tag == "img"]
    ((index, _),) = [(index, each) for index, each in enumerate(words) if each.startswith(alt)]
    return page.pictures[index][1]


def test_equal_latents_over_time(make_run: MakeRun, tmp_path: Path) -> None:
    """At most eight columns, the first and the last among them, oldest first; a row for each latent."""
    run = make_run()
    images = {
        after: drawn(run / "samples" / f"images-{after}.png", after, 64) for after in range(0, 1300, 100)
    }
    page = report(tmp_path / "r.html", run, real=False)
    picture = picture_of(page, "Synthetic chest X-rays drawn by dcgan from equal latents")
    assert picture.size == (8 * SIDE, 4 * SIDE)
    (figure,) = over_time(collect([str(run)]))
    assert figure.columns == ("0", "200", "300", "500", "700", "900", "1k", "1.2k")
    chosen = [0, 200, 300, 500, 700, 900, 1000, 1200]
    assert tiles_of(picture) == [images[after][row].tobytes() for row in range(4) for after in chosen]


def test_large_images_are_reduced(make_run: MakeRun) -> None:
    run = make_run("large", "dcgan", "--model.size=256")
    for after in (0, 1000):
        whole = np.zeros((2 + 258 * 8, 2 + 258 * 8), np.uint8)
        Image.fromarray(whole + 9).save(run / "samples" / f"images-{after}.png")
    (figure,) = over_time(collect([str(run)]))
    assert (figure.picture.width, figure.picture.height) == (2 * 96, 4 * 96)


def test_a_grid_of_another_size_is_not_cut(make_run: MakeRun) -> None:
    """Nobody knows where its images begin; the whole picture is still among the samples."""
    runs = collect([str(make_run())])  # noise of 64 x 64
    assert over_time(runs) == [] and at_a_glance(runs, True) == []


def test_the_first_pictures_are_real_x_rays_only_when_asked_for(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name) for name in "ab"]
    images = [drawn(run / "samples" / "images-1000.png", number, 64) for number, run in enumerate(runs)]
    real, _ = (drawn(run / "samples" / "real.png", 99, 64) for run in runs)
    house = report(tmp_path / "house.html", *runs, real=True)
    first = [picture for _, picture in house.pictures[:3]]
    for picture, source in zip(first, (real, *images), strict=True):
        assert tiles_of(picture) == [each.tobytes() for each in source[:16]]
    shared = report(tmp_path / "shared.html", *runs, real=False)
    assert len(shared.pictures) == len(house.pictures) - 2  # the first ones, and the whole grid
    assert tiles_of(shared.pictures[0][1]) == tiles_of(first[1])


def test_closest_pairs_are_numbers_without_with_real(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    folder = evaluate_fully(run)
    pairs = np.asarray(Image.open(folder / "real" / "closest.png"))

    def shows_pairs(page: Page) -> int:
        return sum(np.array_equal(np.asarray(picture), pairs) for _, picture in page.pictures)

    shared = report(tmp_path / "shared.html", run, real=False)
    house = report(tmp_path / "house.html", run, real=True)
    assert shows_pairs(shared) == 0 and shows_pairs(house) == 1
    for page in (shared, house):
        (table,) = [table for table in page.tables if "pair 1" in table[0]]
        assert table[1] == ["dcgan", "1,000", *(f"{value:.3f}" for value in LIKENESS)]
        assert "some images are copies of training images, 2.0 to 6.0 % of them" in page.text
    assert "The pairs hold real X-rays, so they are left out" in shared.text
    assert main(["report", str(run), "--out", str(tmp_path / "report.md")]) == 0
    assert "pair 8" in (tmp_path / "report.md").read_text()


def test_what_lies_between_two_latents(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    images = drawn(evaluate_fully(run) / "latents" / "interpolation.png", 5, 16)
    page = report(tmp_path / "r.html", run, real=False)
    picture = picture_of(page, "Rows of synthetic chest X-rays drawn by dcgan")
    assert tiles_of(picture) == [each.tobytes() for each in images]


def test_more_runs_show_fewer_images_each(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(f"run{number}") for number in range(4)]
    for run in runs:
        images = drawn(evaluate_fully(run) / "finding.png", 3, 32)
    page = report(tmp_path / "r.html", *runs, real=False)
    picture = picture_of(page, "A grid of synthetic chest X-rays drawn by run3: class finding")
    assert tiles_of(picture) == [each.tobytes() for each in images[:16]]
    assert "class finding, after 1,000 images, the first 16 of 32" in page.text
