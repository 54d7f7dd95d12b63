"""`--out report.md`: what is ill and the tables, the same bytes for the same runs, read back."""

from pathlib import Path

from helpers.html_page import Page
from helpers.run_files import MakeRun, evaluate
from markdown_it import MarkdownIt

from chexdist.__main__ import main

EARLIER = Path(__file__).parents[1] / "earlier_runs"
HOSTILE = "a|b `c` *d* [e](http://f.example) <b>g</b> www.h.example \\ _i_ ~~j~~ @k"


def read_back(text: str) -> Page:
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


def test_the_same_tables_as_on_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("dcgan"), make_run("wgan-gp", "wgan-gp", final=900.0)]
    for run in runs:
        evaluate(run)
    for name in ("report.md", "again.md", "report.html"):
        assert main(["report", *map(str, runs), "--out", str(tmp_path / name)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert text == (tmp_path / "again.md").read_text()
    page = Page((tmp_path / "report.html").read_text())
    assert read_back(text).tables == page.tables and len(page.tables) == 12
    assert "protocol" in text and "<" not in text


def test_texts_of_a_run_stay_texts(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(status={"state": "failed", "cause": HOSTILE + "\n| new | row |"})
    assert main(["report", str(run), "--out", str(tmp_path / "report.md")]) == 0
    text = (tmp_path / "report.md").read_text()
    page = read_back(text)
    assert page.tables[0][1][-1] == f"failed: {HOSTILE} | new | row |"
    assert page.names <= {"p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert "://" not in text and "www." not in text


def test_an_ill_run_is_said_on_top(tmp_path: Path) -> None:
    runs = [str(EARLIER / name) for name in ("dcgan", "wgan-gp")]
    assert main(["report", *runs, "--out", str(tmp_path / "report.md")]) == 0
    first, second, *_ = (tmp_path / "report.md").read_text().splitlines()
    assert first.startswith("> dcgan is ill: critic at chance, from the start") and not second
