"""A report in headless Chromium: it asks the network for nothing, logs no error, fits a desk and a phone."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.chromium import Chromium, installed
from helpers.run_files import MakeRun, evaluate

from chexdist.__main__ import main

pytestmark = pytest.mark.skipif(installed() is None, reason="needs the package chromium")

WIDE = """
[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  return !each.closest('.scroll > *') && box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(each => each.outerHTML.slice(0, 80))
"""
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
    """As wide as a report gets: eight runs, long names, hostile texts."""
    long = "a-very-long-run-name-without-any-space-in-it-" * 3
    runs = [make_run(f"{long}{number}") for number in range(6)]
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
    assert len(pictures) == 17 and all(complete and side in (32, 64) for complete, side in pictures)
    assert chromium.evaluate("document.querySelectorAll('table').length") == 11
    drawn = "[...document.querySelectorAll('svg.chart')]"
    drawn += ".filter(each => each.getBoundingClientRect().width > 250).length"
    assert chromium.evaluate(drawn) == 1 + 2 + 9 + 8
    smallest = "Math.min(...[...document.querySelectorAll('svg.chart text')].map(each => each.getScreenCTM()"
    assert chromium.evaluate(smallest + " ? each.getBoundingClientRect().height || 99 : 99))") >= 9


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_both_schemes(dark: bool, page: Path, chromium: Chromium) -> None:
    """Contrast of 4.5 for text and 3 for lines and bars (WCAG 2.1, 1.4.3 and 1.4.11)."""
    chromium.open(page, 1280, dark)
    background = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark
    assert chromium.evaluate(PALE) == []


def test_it_prints_without_cutting_tables(page: Path, chromium: Chromium) -> None:
    chromium.open(page, 1280)
    printed = base64.b64decode(chromium.call("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF")
    chromium.call("Emulation.setEmulatedMedia", media="print")
    chromium.call(
        "Emulation.setDeviceMetricsOverride", width=700, height=900, deviceScaleFactor=1, mobile=False
    )
    assert chromium.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    chromium.call("Emulation.setEmulatedMedia", media="")


def test_the_test_sees_what_it_looks_for(tmp_path: Path, chromium: Chromium) -> None:
    """A page with each fault."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<p style='width:2000px;color:#aaa'>x<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>"
    )
    chromium.open(faulty, 390)
    assert "http://127.0.0.1:9/x.png" in chromium.requests and chromium.console
    assert chromium.evaluate(WIDE) and chromium.evaluate(PALE)
