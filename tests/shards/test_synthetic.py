"""Images that say that a generative model drew them are refused, or counted where they are asked for.

Those that `chexdist generate` writes, and headers of others.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.untrained import index, make_run
from helpers.xray_files import class_folders, dicom, smooth, write_dicom
from PIL import Image, PngImagePlugin

from chexdist.__main__ import main as chexdist
from chexdist.generation.pictures import STATEMENT
from shards import manifest
from shards.__main__ import main
from shards.pixels.synthetic import PNG_TITLE
from shards.quarantine import Code, Entry
from shards.scan import Scanned, ScanOptions, scan_one
from shards.sources.listing import Source

FORMATS = ("png", "dicom")
SMALL = ["--size", "16", "--workers", "1"]
BuildShards = Callable[..., Path]
Built = Callable[..., tuple[int, manifest.Manifest | None]]


@pytest.fixture(scope="module")
def generated(build_shards: BuildShards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`generated/{png,dicom}/{finding,no_finding}/`: 24 pictures that `chexdist generate` wrote, in each."""
    root = tmp_path_factory.mktemp("generated")
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    run = make_run(tmp_path_factory.mktemp("run"), shards, "dcgan", True, lambda gan: None)
    for kind in FORMATS:
        out = root / f"{kind}-out"
        assert chexdist(["generate", str(run), "--n", "24", "--format", kind, "--out", str(out)]) == 0
        for row in index(out):
            folder = root / kind / row["label"]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(out / row["file"], folder / row["file"])
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("real") / "in", 10)


@pytest.fixture
def build(tmp_path: Path) -> Built:
    """`build(source, option, ...)` -> exit code, and the manifest if there is one."""

    def run(*arguments: str | Path) -> tuple[int, manifest.Manifest | None]:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        code = main(["build", *map(str, arguments), "--out", str(out), *SMALL])
        return code, manifest.read(out) if out.exists() else None

    return run


def samples(content: manifest.Manifest | None) -> int:
    assert content
    return sum(split.samples for split in content.splits.values())


@pytest.mark.parametrize("kind", FORMATS)
def test_pictures_of_a_generator_alone_are_refused(
    kind: str, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["build", str(generated / kind), "--out", str(out), *SMALL]) == 2
    said = capsys.readouterr().err
    assert "24 synthetic images set aside" in said and "a model drew them" in said
    assert "--allow-synthetic packs" in said and "0 usable images" in said
    rows = (tmp_path / "out.quarantine.csv").read_text().splitlines()[1:]
    assert len(rows) == 24 and all(",synthetic," in row for row in rows)
    assert not out.exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("kind", FORMATS)
def test_among_real_ones_they_are_set_aside_and_the_rest_is_built(
    kind: str, generated: Path, source: Path, build: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    code, content = build(source, generated / kind)
    assert code == 1 and content
    assert samples(content) == 20 and content.build["synthetic"] == 0
    assert content.quarantine == {"total": 24, "codes": {"synthetic": 24}}
    assert content.build["patients"] == "file"  # their PatientIDs did not count
    said = capsys.readouterr().err
    assert "24 synthetic images set aside" in said and "24 set aside (synthetic 24)" in said
    code, content = build(source, generated / kind, "--allow-quarantine", "24")
    assert code == 0 and samples(content) == 20
    code, content = build(source, generated / kind, "--allow-quarantine", "23")
    assert code == 1 and samples(content) == 20


@pytest.mark.parametrize("kind", FORMATS)
def test_they_are_packed_and_counted_where_they_are_allowed(
    kind: str, generated: Path, source: Path, build: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, content = build(source, generated / kind, "--allow-synthetic")
    assert code == 0 and content
    assert samples(content) == 44 and content.build["synthetic"] == 24
    assert content.quarantine == {"total": 0, "codes": {}}
    output = capsys.readouterr()
    assert "synthetic images among them, by --allow-synthetic: 24" in output.out
    assert "set aside" not in output.err
    (out,) = (path.parent for path in tmp_path.glob("*/manifest.json"))
    assert main(["verify", str(out)]) == 0 and main(["inspect", str(out)]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("│ synthetic"))
    assert row.split("│")[2].strip() == "24"


def test_a_draw_replaces_them(generated: Path, source: Path, build: Built) -> None:
    code, content = build(source, generated / "png", "--per-class", "9", "--allow-quarantine", "24")
    assert code == 0 and content
    assert samples(content) == 18 and content.quarantine["codes"].keys() == {"synthetic"}


def test_real_ones_are_packed_without_a_word(
    source: Path, build: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--allow-synthetic"]):
        code, content = build(source, *options)
        assert code == 0 and content and content.build["synthetic"] == 0
        output = capsys.readouterr()
        assert "synthetic" not in output.out + output.err


def found(path: Path, allowed: bool = False) -> Scanned | Entry:
    return scan_one(Source(0, path.name, str(path), "finding"), path.parent, ScanOptions(16, 8, allowed))


def refused(path: Path) -> bool:
    result = found(path)
    again = found(path, allowed=True)
    assert isinstance(again, Scanned)
    if isinstance(result, Entry):
        assert result.code is Code.SYNTHETIC and again.synthetic
        return True
    assert not again.synthetic
    return False


@pytest.mark.parametrize(
    ("value", "synthetic"),
    [("YES", True), (" YES ", True), (["YES", "NO"], True), ("NO", False), ("", False), (None, False)],
)
@pytest.mark.filterwarnings("ignore")  # more than one value is against the standard
def test_headers_of_dicom(value: str | list[str] | None, synthetic: bool, tmp_path: Path) -> None:
    data = dicom((smooth(1) * 4000).astype(np.uint16), 12)
    if value is not None:
        data.SyntheticData = value
    assert refused(write_dicom(tmp_path / "image.dcm", data)) == synthetic


@pytest.mark.parametrize("chunk", ["tEXt", "zTXt", "iTXt"])
@pytest.mark.parametrize(
    ("title", "synthetic"),
    [(STATEMENT, True), (STATEMENT.upper(), True), ("Chest X-ray", False), ("not synthetic", False)],
)
def test_titles_of_png(chunk: str, title: str, synthetic: bool, tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    if chunk == "iTXt":
        text.add_itxt("Title", title)
    else:
        text.add_text("Title", title, zip=chunk == "zTXt")
    text.add_text("Comment", STATEMENT)
    Image.fromarray((smooth(1) * 255).astype(np.uint8)).save(tmp_path / "image.png", pnginfo=text)
    assert refused(tmp_path / "image.png") == synthetic


def test_both_packages_mean_the_same_mark() -> None:
    assert STATEMENT.startswith(PNG_TITLE)
