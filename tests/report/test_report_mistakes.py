"""Each mistake and each damaged file is one line with exit code 2; the old report stays as it was."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.run_files import MakeRun, evaluate, metric

from chexdist.__main__ import main
from shards import files

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *words: object) -> str:
    """The one line that a refused command prints."""
    assert main([str(word) for word in ("report", *words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and 1 <= err.count("\n") <= 2 and "Traceback" not in err
    return err


def test_what_is_no_run(make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    out = ("--out", tmp_path / "report.html")
    assert "no directory" in refused(capsys, tmp_path / "nowhere", *out)
    assert "no config.yaml" in refused(capsys, tmp_path, *out)
    run = make_run()
    assert "no directory" in refused(capsys, run / "config.yaml", *out)
    assert "given twice" in refused(capsys, run, f"{run}/../{run.name}", *out)
    (tmp_path / "link").symlink_to(run)
    assert "given twice" in refused(capsys, run, tmp_path / "link", *out)
    assert "up to 12" in refused(capsys, *[f"run{number}" for number in range(13)], *out)
    assert not (tmp_path / "report.html").exists()


def test_where_the_report_can_not_go(make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    run = make_run()
    assert "must end in .html" in refused(capsys, run, "--out", tmp_path / "report.pdf")
    assert "no folder" in refused(capsys, run, "--out", tmp_path / "nowhere" / "report.html")
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in refused(capsys, run, "--out", tmp_path / "folder.html")
    assert "Markdown has no pictures" in refused(capsys, run, "--with-real", "--out", tmp_path / "report.md")


def edited(file: Path, edit: Callable[[Any], object]) -> None:
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
)
LOGS = {
    "not JSON": "{\n",
    "not text": b"\xff\xfe\n",
    "another object": '{"images": 1}\n',
    "no numbers": json.dumps({**metric("kid_x1000", 1.0), "n": "512"}) + "\n",
    "yes for a number": json.dumps({**metric("kid_x1000", 1.0), "n": True}) + "\n",
    "a list for a name": json.dumps({**metric("kid_x1000", 1.0), "name": ["kid"]}) + "\n",
    "no hash": json.dumps({**metric("kid_x1000", 1.0), "protocol": "val"}) + "\n",
    "a huge whole number": json.dumps(metric("kid_x1000", 1.0)).replace(": 512", ": 1" + 400 * "0") + "\n",
    "a huge value": json.dumps(metric("kid_x1000", 1.5)).replace("1.5", "1" + 400 * "0") + "\n",
    "not a number": json.dumps(metric("kid_x1000", 1.5)).replace("1.5", "NaN") + "\n",
    "deep": "[" * 100_000 + "\n",
}


@pytest.mark.parametrize("what", LOGS)
def test_a_damaged_log(what: str, make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    run, out = make_run(), tmp_path / "report.html"
    out.write_text("the old one")
    content = LOGS[what]
    (run / "metrics.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "metrics.jsonl" in refused(capsys, run, "--out", out)
    assert out.read_text() == "the old one" and sorted(tmp_path.iterdir()) == [run, out]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", BOMB),
        ("config.yaml", "[" * 500),
        ("config.yaml", "- a\n- b\n"),
        ("config.yaml", "!!python/object/apply:os.system ['true']"),
        ("status.json", "{"),
        ("status.json", '{"state": "<b>", "images": 1}'),
        ("status.json", '{"state": "done", "images": -1}'),
        ("provenance.json", "[]"),
    ],
)
def test_other_damaged_files(
    name: str, content: str, make_run: MakeRun, tmp_path: Path, capsys: Capture
) -> None:
    run = make_run()
    (run / name).write_text(content)
    assert f"{name} is damaged" in refused(capsys, run, "--out", tmp_path / "report.html")


EDITS: dict[str, Callable[[Any], object]] = {
    "a metric's value": lambda d: d["metrics"][0].update(value="x"),
    "a field less": lambda d: d["metrics"][0].pop("unit"),
    "an interval upside down": lambda d: d["metrics"][0].update(low=1e9),
    "a protocol's field": lambda d: next(iter(d["protocols"].values())).update(reference_split="test"),
    "a protocol gone": lambda d: d["protocols"].clear(),
    "no list": lambda d: d.update(metrics={}),
    "no images": lambda d: d.update(images=True),
    "no reasons": lambda d: d.update(refused=[]),
    "no split": lambda d: d.pop("split"),
    "pairs that are none": lambda d: d.update(closest=[["a", "b"]]),
    "a likeness that is none": lambda d: d.update(closest=[{"likeness": 1.5}]),
    "too many pairs": lambda d: d.update(closest=[{"likeness": 0.5}] * 65),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_damaged_evaluation(what: str, make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    run = make_run()
    file = evaluate(run)
    edited(file, EDITS[what])
    err = refused(capsys, run, "--out", tmp_path / "report.html")
    assert "evaluation.json is damaged" in err and "chexdist evaluate" in err


def test_a_file_that_is_too_large(make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    run = make_run()
    (run / "config.yaml").write_bytes(b"#" * (2**20 + 1))
    assert "config.yaml is larger than 1 MiB" in refused(capsys, run, "--out", tmp_path / "report.html")


def png(width: int, height: int, pixels: int = 1000) -> bytes:
    """A PNG of so many pixels in a few bytes; whole when `pixels` is what its rows take."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(pixels))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "content",
    [png(6000, 6000), png(12_000, 12_000), png(60_000, 60_000), png(64, 64), b"GIF89a", b"", b"<svg/>"],
    ids=["large", "larger", "bomb", "cut", "GIF", "empty", "SVG"],
)
def test_a_hostile_picture(content: bytes, make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    run = make_run()
    (run / "samples" / "images-1000.png").write_bytes(content)
    assert "images-1000.png" in refused(capsys, run, "--out", tmp_path / "report.html")


def test_a_picture_with_too_many_pixels(make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    """A whole one: only its size is wrong."""
    run = make_run()
    (run / "samples" / "images-1000.png").write_bytes(png(6000, 6000, 6001 * 6000))
    assert "has 6000 x 6000 pixels" in refused(capsys, run, "--out", tmp_path / "report.html")


def test_a_full_disk_leaves_the_old_report(
    make_run: MakeRun, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:1000])
            raise OSError(28, "No space left on device")

    run, out = make_run(), tmp_path / "report.html"
    out.write_bytes(b"the old one")
    monkeypatch.setattr(files, "open", Full, raising=False)
    assert "No space left" in refused(capsys, run, "--out", out)
    assert out.read_bytes() == b"the old one" and sorted(tmp_path.iterdir()) == [run, out]


def test_a_pipe_in_place_of_a_file(make_run: MakeRun, tmp_path: Path, capsys: Capture) -> None:
    """Reading one would wait for ever."""
    run = make_run()
    for name in ("samples/images-1000.png", "status.json"):
        (run / name).unlink()
        os.mkfifo(run / name)
        assert "plain file" in refused(capsys, run, "--out", tmp_path / "report.html")
