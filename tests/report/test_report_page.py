"""What a page says of its runs, and what it must never say: their markup, real X-rays, names, paths."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_files
from helpers.html_page import Page
from helpers.run_files import PAIR_NAMES, SECRET, MakeRun, evaluate, grid, metric, protocol
from PIL import Image

from chexdist.__main__ import main
from chexdist.metrics import METRICS, computed_from
from chexdist.report.page import BETTER

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "section",
    "div",
    "p",
    "h1",
}
TAGS |= {
    "h2",
    "h3",
    "ul",
    "li",
    "b",
    "strong",
    "code",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
}
TAGS |= {"figure", "figcaption", "img", "details", "summary", "dl", "dt", "dd", "a", "ol"}
TAGS |= {"svg", "g", "path", "rect", "circle", "polyline", "polygon", "text"}


def report(*runs: Path, out: Path, words: tuple[str, ...] = ()) -> Page:
    assert main(["report", *map(str, runs), "--out", str(out), *words]) == 0
    return Page(out.read_text(encoding="utf-8"))


def test_the_numbers_of_each_run_stand_beside_what_they_are_measured_by(
    make_run: MakeRun, tmp_path: Path
) -> None:
    first, second = make_run("dcgan", final=600.0), make_run("wgan-gp", "wgan-gp", final=900.0)
    for run, shift in ((first, 0.0), (second, 300.0)):
        evaluate(run, shift=shift)
    page = report(first, second, out=tmp_path / "report.html")
    kid = next(table for table in page.tables if table[0][1].startswith("KID"))
    assert kid[0] == [
        "run",
        "KID × 1000 [95 %]",
        "KID × 1000, untrained",
        "generated (n)",
        "real images seen",
    ]
    assert kid[1] == ["dcgan", "600 [590, 610]", "1,700 [1,690, 1,710]", "512", "1,000"]
    assert kid[2] == ["wgan-gp", "900 [890, 910]", "1,700 [1,690, 1,710]", "512", "1,000"]
    assert [row[:2] for row in kid[3:]] == [
        ["real X-rays", "−10 [−20, 0]"],
        ["mean image", "1,225 [1,215, 1,235]"],
    ]
    pairs = [table for table in page.tables if table[0][1].startswith("PSNR")]
    assert len(pairs) == 3  # all images, and each class
    assert all(table[3][0] == "real X-rays" and table[3][1] == "0.400 [0.350, 0.450]" for table in pairs)
    for text in (
        "do not measure realism",
        "reference split: val, class finding",
        "no FID between 80 and 512",
    ):
        assert text in page.text
    assert "Of the two GANs at 64 px, dcgan is nearest to held-out patients" in page.text
    assert "c0ffeec0ffee" in page.text and "abababababab" in page.text and "2.15.0" in page.text
    charts = [
        attributes["aria-label"] or "" for tag, attributes in page.tags if attributes.get("role") == "img"
    ]
    assert len(charts) == 2 + 3 + 4 and all(charts)  # curves and losses are drawn for two widths
    assert any("dcgan 600 [590, 610] after 1,000 images; real X-rays −10" in chart for chart in charts)


def test_different_protocols_are_in_separate_tables(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b")]
    evaluate(runs[0])
    evaluate(runs[1], split="test")
    page = report(*runs, out=tmp_path / "report.html")
    assert not [
        table
        for table in page.tables
        if table[0][1].startswith("PSNR") and {"a", "b"} <= {row[0] for row in table[1:]}
    ]
    kids = [
        {row[0] for row in table[1:]} & {"a", "b"} for table in page.tables if table[0][1].startswith("KID")
    ]
    assert sorted(map(sorted, kids)) == [["a"], ["a"], ["a", "b"], ["b"], ["b"], ["b"]]
    assert "Not measured like this: a" in page.text


def test_nothing_of_a_run_becomes_markup(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("<img src=x onerror=alert(0)>")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config + f"{json.dumps(HOSTILE)}: {json.dumps(HOSTILE)}\n")
    status = {"state": "failed", "images": 10, "cause": HOSTILE + "\u202egnp.\x00\ud800", "time": 1e300}
    (run / "status.json").write_text(json.dumps(status))
    provenance = {"versions": {HOSTILE: HOSTILE}, "machine": {"device": HOSTILE}, "started": HOSTILE}
    (run / "provenance.json").write_text(json.dumps(provenance))
    name, fields = protocol(pairing=HOSTILE, **{HOSTILE: [HOSTILE, None]})
    of = {"protocol": name, "unit": HOSTILE}
    numbers = [metric(f"kid_x1000/{HOSTILE}", 5.0, **of), metric(f"{HOSTILE}", 5.0, **of)]
    file = evaluate(run, protocols={name: fields}, metrics=numbers, refused={HOSTILE: HOSTILE}, seed=HOSTILE)
    file.write_text(json.dumps({**json.loads(file.read_text()), "split": HOSTILE}))
    page = report(run, out=tmp_path / "report.html")
    assert {"dl", "img", "svg"} < page.names <= TAGS
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key in ("srcset", "action")]
        assert attributes.get("href") in (None, "#runs")
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
    assert HOSTILE in page.text and "49" not in page.text.replace("7*7", "")
    assert all(character.isprintable() for character in page.text)


def test_a_page_needs_no_network_and_no_script(make_run: MakeRun, tmp_path: Path) -> None:
    page = report(make_run(), out=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?:|//|@import|url\(|javascript", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert {"script", "link", "iframe", "object", "form"} & page.names == set()
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} == {"#runs"}
    policies = [
        each["content"] for tag, each in page.tags if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_real_x_rays_are_shown_only_when_asked_for(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b")]
    evaluate(runs[0], metrics=[], refused={"kid_x1000/real": "a class of that name"})
    grid(runs[0] / "evaluations" / "images-1000-val" / "real.png", 12345)
    real = np.asarray(Image.open(runs[0] / "samples" / "real.png"))

    def shows_real(page: Page) -> int:
        return sum(np.array_equal(np.asarray(picture), real) for _, picture in page.pictures)

    shared = report(*runs, out=tmp_path / "shared.html")
    assert len(shared.pictures) == 2 and shows_real(shared) == 0
    house = report(*runs, out=tmp_path / "house.html", words=("--with-real",))
    assert len(house.pictures) == 3 and shows_real(house) == 1  # both runs have the same one
    assert "holds real X-rays of patients" in house.text and "holds real" not in shared.text


def test_class_grids_of_the_newest_evaluation_are_shown(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    evaluate(run, images=500)
    assert len(report(run, out=tmp_path / "old.html").pictures) == 1  # newer samples of training
    evaluate(run)
    page = report(run, out=tmp_path / "new.html")
    assert [picture.size for _, picture in page.pictures] == [(32, 32), (32, 32)]
    assert "class finding, after 1,000 images" in page.text


def test_pictures_carry_pixels_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    grid(run / "samples" / "images-2000.png", 5, side=2120)
    page = report(run, out=tmp_path / "report.html")
    ((content, picture),) = page.pictures
    assert picture.size == (1060, 1060) and "reduced for this page" in page.text
    assert SECRET.encode() in (run / "samples" / "images-2000.png").read_bytes()
    assert SECRET.encode() not in content


def test_paths_hosts_and_command_lines_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    evaluate(run)
    for out in ("report.html", "report.md"):
        report(run, out=tmp_path / out)
        text = (tmp_path / out).read_text()
        assert "jane" not in text and "ward-7" not in text and str(tmp_path) not in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"state": "running", "images": 400},
            ["running, last status 2027-01-15 08:00 UTC", "finished run"],
        ),
        ({"state": "failed", "cause": "the loss is not finite"}, ["failed: the loss is not finite"]),
        ({"state": "preempted"}, ["preempted, last status"]),
        ({"state": "done"}, ["done, 2027-01-15 08:00 UTC"]),
    ],
)
def test_each_status_is_shown(
    make_run: MakeRun, tmp_path: Path, status: dict[str, Any], words: list[str]
) -> None:
    run = make_run(status=status)
    if status["state"] == "running":
        (run / "heartbeats").mkdir()
        (run / "heartbeats/rank-0.json").write_text("{}")  # just now
    page = report(run, out=tmp_path / "report.html")
    assert all(word in page.text for word in words)
    assert ("Before comparing" in page.text) == (status["state"] != "done")


def test_what_was_not_computed_is_named_once(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    names = [f"{base}/{of_class}" for of_class in ("a", "b") for base in ("kid_x1000", "fid")]
    evaluate(
        run, metrics=[], refused={**dict.fromkeys(names, "unconditional"), "fid interval": "none is known"}
    )
    page = report(run, out=tmp_path / "report.html")
    rows = next(table for table in page.tables if table[0] == ["what", "run", "why"])[1:]
    assert rows == [
        ["KID × 1000, FID of class a and class b", "dcgan (val, 1,000 images)", "unconditional"],
        ["FID interval", "dcgan (val, 1,000 images)", "none is known"],
    ]


def test_a_run_without_metrics_or_pictures(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(lines=None, status={"state": "running", "images": 0})
    for picture in (run / "samples").iterdir():
        picture.unlink()
    for name in ("status.json", "provenance.json"):
        (run / name).unlink()
    page = report(run, out=tmp_path / "report.html")
    assert "dcgan has no metrics yet." in page.text and "No KID has been measured" in page.text
    assert "unknown: no status.json" in page.text and page.pictures == []


def test_a_line_cut_by_a_kill_is_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    whole = report(run, out=tmp_path / "report.html")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"images": 2000, "step": 1, "na')
    cut = report(run, out=tmp_path / "report.html")
    assert whole.tables and (cut.text, cut.tables) == (whole.text, whole.tables)


def test_different_sizes_and_equal_names_are_distinguished(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("old/dcgan"), make_run("new/dcgan", "dcgan", "--model.size=128")]
    page = report(*runs, out=tmp_path / "report.html")
    assert page.tables[0][1][0] == "old/dcgan" and page.tables[0][2][0] == "new/dcgan"
    assert "different image sides (old/dcgan 64 px and new/dcgan 128 px)" in page.text


def test_settings_that_differ(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b", "dcgan", "--optim.critic.lr=0.5", "--penalty.name=none")]
    page = report(*runs, out=tmp_path / "report.html")
    rows = {row[0]: row[1:] for table in page.tables for row in table if table[0] == ["setting", "a", "b"]}
    assert rows["optim.critic.lr"] == ["0.0005", "0.5"] and rows["penalty.name"] == ["r1", "none"]
    assert rows["penalty.weight"][1] == "–" and "run.dir" not in rows and "train.batch" not in rows


@pytest.mark.parametrize(
    ("finals", "words"),
    [
        (
            (600.0, 900.0),
            "nearest to held-out patients, with a KID × 1000 of 600 [590, 610] after 1,000 images",
        ),
        ((600.0, 610.0), "its 95 % interval overlaps that of b, so their order is not settled"),
        ((1500.0, 1600.0), "always the mean image: 1,225, which it does not beat"),
    ],
)
def test_the_summary_claims_no_more_than_the_intervals(
    make_run: MakeRun, tmp_path: Path, finals: tuple[float, float], words: str
) -> None:
    page = report(*[make_run(n, final=f) for n, f in zip("ab", finals, strict=True)], out=tmp_path / "r.html")
    assert words in page.text
    assert ("overlaps" in page.text) == ("overlaps" in words)


def test_the_names_on_disk_are_those_of_the_registry() -> None:
    assert {"kid_x1000", "fid"} <= METRICS.keys()
    assert list(computed_from("pairs")) == list(PAIR_NAMES)


def test_numbers_of_an_earlier_release_stay_among_their_kind(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSIM had another formula and another name: its pairs stay pairs, and it stands under its own name."""
    monkeypatch.setattr(run_files, "PAIR_NAMES", (*PAIR_NAMES[:2], "ssim_random_pairs_256px"))
    run = make_run()
    evaluate(run)
    page = report(run, out=tmp_path / "r.html")
    assert "Random pairs: PSNR, MSE, SSIM (borders reflected)" in page.text
    columns = {column for table in page.tables for column in table[0]}
    assert "SSIM (borders reflected) [95 %]" in columns and "SSIM [95 %]" not in columns


def test_a_report_loads_no_torch(make_run: MakeRun, tmp_path: Path) -> None:
    """It takes seconds, and a report computes no metric."""
    script = (
        "import sys\nfrom chexdist.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\nassert 'chexdist.metrics' in sys.modules\n"
        "assert not {'torch', 'torchmetrics'} & set(sys.modules)"
    )
    words = ["report", str(make_run()), "--out", str(tmp_path / "report.html")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("better", ["lower", "higher", "near real"])
def test_the_page_says_which_values_are_better(
    better: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "fid", replace(METRICS["fid"], better=better))
    of = {"protocol": protocol()[0], "unit": "x"}
    course = [metric("fid", 9.0 + images, images, None, **of) for images in (500, 1000)]
    page = report(make_run(lines=course), out=tmp_path / "report.html")
    words = BETTER[better]
    assert f"FID: {words}." in page.text and f"FID over training ; {words}" in page.text
    assert not [other for other in BETTER.values() if other != words and other in page.text]
