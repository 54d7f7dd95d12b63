"""A report in headless Chromium: no request, no error; it fits a desk, a phone and paper; keyboards do."""

import base64
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.chromium import PAPER, Chromium, installed
from helpers.full_runs import drawn, evaluate_fully
from helpers.run_files import MakeRun, evaluate

from chexdist.__main__ import main

pytestmark = pytest.mark.skipif(installed() is None, reason="needs the package chromium")
HEADINGS = [
    "Order",
    "Runs",
    "Distance from real X-rays",
    "Fidelity and diversity",
    "Labels and orientation",
    "Random pairs: PSNR, MSE, SSIM",
    "The same latents over time",
    "Samples",
    "Between two latents",
    "Copies of training images",
    "Losses",
    "Settings",
    "Provenance",
    "Intended use",
]

WIDE = """
[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  return !each.closest('.scroll > *') && box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(each => each.outerHTML.slice(0, 80))
"""
CROWDED = """
[...document.querySelectorAll('svg.chart')].flatMap(chart => {
  const frame = chart.getBoundingClientRect();
  const texts = [...chart.querySelectorAll('text')];
  const boxes = texts.map(each => [each.textContent, each.getBoundingClientRect()]);
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1.5;
  const outside = box => box.left < frame.left - 1 || box.right > frame.right + 1
    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
  if (frame.width === 0) return [];
  return boxes.flatMap(([text, box], i) => [
    ...(outside(box) ? [text + ' leaves its chart'] : []),
    ...boxes.slice(0, i).filter(([, other]) => over(box, other)).map(([other]) => text + ' over ' + other),
  ]);
})
"""
"""Texts of charts that run over each other or out of their chart."""
SPILT = """
[...document.querySelectorAll('th, td')].filter(each => each.scrollWidth > each.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 80))
"""
"""Cells whose text runs into the next."""
KEYS = """
[...document.querySelector('.legend').querySelectorAll('svg')].map(each =>
  each.querySelector('g').innerHTML + getComputedStyle(each.querySelector('path')).strokeDasharray)
"""
"""What runs differ by for who sees no colours: markers, then dashes, of which four runs have the same."""
PALE = """
(() => {
  const light = rgb => rgb.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = each => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return light(colour);
    }
    return 1;
  };
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const texts = 'p, td, th, li, figcaption, summary, dt, svg text, .line, .bar';
  return [...document.querySelectorAll(texts)].map(each => {
    const style = getComputedStyle(each), drawn = each.matches('svg *');
    const ink = each.matches('.line') ? style.stroke : drawn ? style.fill : style.color;
    const least = each.matches('.line, .bar') ? 3 : 4.5;
    return [contrast(light(ink), paper(each)), least, each.outerHTML.slice(0, 60)];
  }).filter(([found, least]) => found < least);
})()
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(make_run: MakeRun, tmp_path: Path) -> Path:
    """As wide as a report gets: twelve runs, long names, hostile texts."""
    long = "a-very-long-run-name-without-any-space-in-it-" * 3
    runs = [make_run(f"{long}{number}") for number in range(10)]
    runs += [
        make_run("<img src=x onerror=alert(1)>"),
        make_run("wgan", status={"state": "failed", "cause": "x" * 290}),
    ]
    for run in runs:
        evaluate(run)
    out = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out), "--with-real"]) == 0
    return out


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_asks_for_nothing(width: int, page: Path, chromium: Chromium) -> None:
    chromium.open(page, width)
    assert chromium.console == []
    outside = [url for url in chromium.requests if not url.startswith("data:image/png;base64,")]
    assert outside == [page.as_uri()]
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    assert chromium.evaluate(WIDE) == []
    pictures = chromium.evaluate("[...document.images].map(each => [each.complete, each.naturalWidth])")
    assert len(pictures) == 25 and all(complete and side in (32, 64) for complete, side in pictures)
    assert chromium.evaluate("document.querySelectorAll('table').length") == 11
    charts = "[...document.querySelectorAll('svg.chart')]"
    charts += ".filter(each => each.getBoundingClientRect().width > 250).length"
    assert chromium.evaluate(charts) == 1 + 3 + 12
    assert chromium.evaluate(CROWDED) == [] and chromium.evaluate(SPILT) == []
    smallest = "Math.min(...[...document.querySelectorAll('svg.chart text')].map(each => each.getScreenCTM()"
    assert chromium.evaluate(smallest + " ? each.getBoundingClientRect().height || 99 : 99))") >= 9


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_both_schemes(dark: bool, page: Path, chromium: Chromium) -> None:
    """Contrast of 4.5 for text and 3 for lines and bars (WCAG 2.1, 1.4.3 and 1.4.11)."""
    chromium.open(page, 1280, dark)
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark
    assert chromium.evaluate(PALE) == []


def reported(runs: list[Path], out: Path, *words: str) -> Path:
    assert main(["report", *map(str, runs), "--out", str(out), *words]) == 0
    return out


@pytest.fixture
def many(make_run: MakeRun, tmp_path: Path) -> Callable[[int], Path]:
    """So many runs with every metric, over training and by two extractors, and all pictures."""

    def make(number: int) -> Path:
        runs = [make_run(f"residual-64-lr0.0002-seed{index}", final=400.0 + index) for index in range(number)]
        for index, run in enumerate(runs):
            evaluate_fully(run, 1000, index / 9, ("efficientnet-lite0", "random-conv"), course=2)
            for images in (0, 500, 1000):
                drawn(run / "samples" / f"images-{images}.png", images, 64)
            drawn(run / "samples" / "real.png", 7, 64)
        return reported(runs, tmp_path / "report.html", "--with-real")

    return make


@pytest.mark.parametrize("runs", [1, 3, 12])
def test_desk_phone_and_paper(runs: int, many: Callable[[int], Path], chromium: Chromium) -> None:
    page = many(runs)
    for width in (1280, 390):
        chromium.open(page, width)
        assert chromium.console == []
        assert [url for url in chromium.requests if not url.startswith("data:image/png")] == [page.as_uri()]
        assert chromium.evaluate("document.documentElement.scrollWidth") <= width
        assert chromium.evaluate(WIDE) == []
        assert chromium.evaluate(CROWDED) == [] and chromium.evaluate(SPILT) == []
    found = chromium.evaluate(KEYS)
    assert len(found) == runs == len(set(found))
    assert len({each.rpartition(">")[2] for each in found}) == -(-runs // 4)
    with chromium.printed(page):
        assert chromium.evaluate("document.documentElement.scrollWidth") <= PAPER
        assert chromium.evaluate(WIDE.replace("!each.closest('.scroll > *') &&", "")) == []
        assert chromium.evaluate(CROWDED) == [] and chromium.evaluate(SPILT) == []
    printed = base64.b64decode(chromium.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")


def test_what_stands_on_top(many: Callable[[int], Path], chromium: Chromium) -> None:
    chromium.open(many(3), 1280)
    order = (
        "[...document.querySelectorAll('.lead, header img, h2, h3')].map(each => each.tagName === 'H2' || "
    )
    order += "each.tagName === 'H3' ? each.textContent : each.className || each.tagName)"
    found = chromium.evaluate(order)
    assert found[:7] == ["lead", "IMG", "IMG", "IMG", "IMG", "Order", "Order by KID × 1000: all images"]
    headings = [each for each in found if each in HEADINGS]
    assert headings == HEADINGS
    assert chromium.evaluate("document.querySelectorAll('.times').length") == 3
    tags = chromium.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(each => +each.tagName[1])")
    assert tags[0] == 1 and all(after <= before + 1 for before, after in pairwise(tags))


def test_it_can_be_read_by_keyboard(many: Callable[[int], Path], chromium: Chromium) -> None:
    """The skip link comes first and leads to the numbers; then whatever scrolls can be reached."""
    chromium.open(many(1), 1280)
    chromium.press("Tab")
    focused = "document.activeElement"
    assert chromium.evaluate(f"{focused}.className") == "skip"
    assert chromium.evaluate(f"{focused}.getBoundingClientRect().top") >= 0
    chromium.press("Enter")
    assert chromium.evaluate(f"{focused}.id") == "runs"
    chromium.press("Tab")
    assert chromium.evaluate(f"{focused}.className").startswith("scroll")
    assert chromium.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    unreachable = "[...document.querySelectorAll('*')].filter(each => /auto|scroll/.test("
    unreachable += "getComputedStyle(each).overflowX) && each.tabIndex < 0).length"
    assert chromium.evaluate(unreachable) == 0


def test_the_test_sees_what_it_looks_for(tmp_path: Path, chromium: Chromium) -> None:
    """A page with each fault."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<p style='width:2000px;color:#aaa'>x<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>"
    )
    chromium.open(faulty, 390)
    assert "http://127.0.0.1:9/x.png" in chromium.requests and chromium.console
    assert chromium.evaluate(WIDE) and chromium.evaluate(PALE)
    faulty.write_text(
        "<svg class='chart' viewBox='0 0 100 40' width='100'><text x='1' y='20'>one</text>"
        "<text x='9' y='22'>two</text><text x='80' y='30'>outside</text></svg>"
        "<table style='table-layout:fixed;width:9px'><tr><td style='white-space:nowrap'>a long cell</td></tr>"
    )
    chromium.open(faulty, 390)
    assert chromium.evaluate(CROWDED) == ["two over one", "outside leaves its chart"]
    assert len(chromium.evaluate(SPILT)) == 1
