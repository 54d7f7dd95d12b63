"""`chexdist evaluate --pictures`: a folder's numbers are those of a run that drew it; what can't be measured
is named.
"""

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.untrained import make_run
from PIL import Image

from chexdist.__main__ import main
from chexdist.distributed import devices
from chexdist.errors import UserError, WorkError
from chexdist.evaluation import measure as evaluation_measure
from chexdist.evaluation.pictures_source import PicturesSource, read_picture, read_pictures
from chexdist.metrics.preprocess import resize

CLASSES = ("no_finding", "finding")
OPTIONS = ("--samples", "64", "--pairs", "16", "--extractor", "random-conv")


@pytest.fixture(scope="module")
def held_out(build_shards: Callable[..., Path]) -> Path:
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(scope="module")
def run(held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), held_out, "dcgan", True, lambda gan: None)


@pytest.fixture(scope="module")
def generated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `chexdist generate` writes, of both classes; never to be changed."""
    folder = tmp_path_factory.mktemp("generated") / "pictures"
    assert main(["generate", str(run), "--n", "64", "--no-audit", "--out", str(folder)]) == 0
    return folder


def draw(path: Path, seed: int = 0, side: int = 32, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def evaluate(pictures: Path, shards: Path, *words: str) -> int:
    return main(["evaluate", "--pictures", str(pictures), "--data.shards", str(shards), *OPTIONS, *words])


def documents(owner: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(owner.glob("evaluations/*/evaluation.json"))]


@pytest.fixture(scope="module")
def measured(generated: Path, held_out: Path) -> Path:
    before = {path: path.stat().st_mtime_ns for path in generated.rglob("*")}
    assert evaluate(generated, held_out) == 0
    assert {path: path.stat().st_mtime_ns for path in generated.rglob("*")} == before
    return generated.with_name("pictures-evaluation")


def test_a_folder_s_numbers_are_those_of_the_run_that_drew_it(
    run: Path, measured: Path, held_out: Path
) -> None:
    """Under the same protocols: the pictures' 256 levels are those that metrics round to."""
    assert main(["evaluate", str(run), *OPTIONS]) == 0
    ((theirs,), (ours,)) = documents(measured), documents(run)
    numbers = [{metric["name"]: metric for metric in each["metrics"]} for each in (theirs, ours)]
    assert numbers[0].keys() == numbers[1].keys()
    for name in ("kid_x1000", "kid_x1000/real", "kid_x1000/mean_image"):
        mine, other = (each[name] for each in numbers)
        assert mine["protocol"] == other["protocol"] and mine["n"] == other["n"]
        assert mine["value"] == pytest.approx(other["value"], rel=1e-5)
    assert "kid_x1000/no_finding" in numbers[0]  # of fewer pictures: so many are of that class
    assert numbers[0]["kid_x1000/no_finding"]["n"] < 64 == numbers[1]["kid_x1000/no_finding"]["n"]
    assert {(metric["images"], metric["step"]) for metric in theirs["metrics"]} == {(0, 0)}
    assert (theirs["pictures"], theirs["split"], theirs["seed"]) == (64, "val", 0)


def test_a_report_and_a_comparison_set_pictures_beside_runs(
    run: Path, measured: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), *OPTIONS]) == 0
    for name in ("report.md", "report.html"):
        assert main(["report", str(run), str(measured), "--out", str(tmp_path / name)]) == 0
    text = (tmp_path / "report.md").read_text()
    tables = [part for part in text.split("\n**") if "KID × 1000 \\[95 %\\]" in part]
    assert tables and all(f"| {name} |" in tables[0] for name in (run.name, measured.name)), text
    assert "pictures, of whatever made them" in text
    assert "pictures-evaluation is pictures" not in text and "untrained" not in text
    capsys.readouterr()
    assert main(["compare", str(run), str(measured)]) == 0
    assert "pictures-evaluation" in capsys.readouterr().out


def test_the_seed_chooses_and_nothing_is_overwritten(generated: Path, held_out: Path, tmp_path: Path) -> None:
    owner = tmp_path / "numbers"
    words = ("--out", str(owner))
    for more in ((), ("--seed", "1"), ("--images", "60000"), ()):
        assert evaluate(generated, held_out, *words, *more) == 0
    found = documents(owner)
    assert sorted((each["images"], each["seed"]) for each in found) == [(0, 0), (0, 1), (60000, 0)]
    assert all((folder / "draws.safetensors").exists() for folder in (owner / "evaluations").iterdir())
    grids = {path.stem for path in owner.glob("evaluations/*/*.png")}
    assert grids == {*CLASSES}


def test_order_and_classes_are_the_seed_s(tmp_path: Path) -> None:
    for number in range(40):
        draw(tmp_path / CLASSES[number % 4 == 0] / f"{number}.png", number)
    pictures = read_pictures(tmp_path, CLASSES)
    one, again, other = (PicturesSource(pictures, 2, 32, 0, seed, torch.device("cpu")) for seed in (0, 0, 1))
    first = one.draw(range(8), None)
    assert torch.equal(first, again.draw(range(8), None)) and not torch.equal(
        first, other.draw(range(8), None)
    )
    assert torch.equal(torch.cat([one.draw(range(3), None), one.draw(range(3, 8), None)]), first)
    assert one.conditional and (one.available(None), one.available(0), one.available(1)) == (40, 30, 10)
    labels = one.labels(range(40))
    assert int((labels == 1).sum()) == 10
    of_class = torch.stack(
        [image for image, label in zip(one.draw(range(40), None), labels, strict=True) if label]
    )
    assert torch.equal(of_class, one.draw(range(10), 1))


def test_a_picture_is_its_levels(tmp_path: Path) -> None:
    """8 and 16 bits, gray, palette and RGB, PNG and JPEG; the side is brought by the protocol's filter."""
    gray = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    expected = torch.from_numpy(gray.astype(np.float32) / 127.5 - 1)[None, None]
    image = Image.fromarray(gray)
    image.save(tmp_path / "gray.png")
    image.convert("RGB").save(tmp_path / "rgb.png")
    image.convert("P").save(tmp_path / "palette.png")
    image.save(tmp_path / "gray.jpg", quality=100)
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("gray.png", "rgb.png", "palette.png", "deep.png"):
        torch.testing.assert_close(read_picture(tmp_path / name), expected, rtol=0, atol=1e-6)
    assert float((read_picture(tmp_path / "gray.jpg") - expected).abs().max()) < 0.05
    fine = np.full((32, 32), 30_001, np.uint16)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    assert float(read_picture(tmp_path / "fine.png")[0, 0, 0, 0]) == pytest.approx(30_001 / 65_535 * 2 - 1)
    source = PicturesSource(read_pictures(tmp_path, CLASSES), 2, 16, 0, 0, torch.device("cpu"))
    drawn = source.draw(range(1), None)
    file = source.pictures.files[source._order[0]]
    assert drawn.shape == (1, 1, 16, 16) and source.brought_from == 32
    torch.testing.assert_close(drawn, resize(read_picture(file), 16))


def test_another_size_is_another_protocol(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Enlarged or reduced pictures are not those of a generator of the shards' size, and it is said."""
    for side in (32, 48):
        for number in range(64):
            draw(tmp_path / str(side) / f"{number}.png", number, side)
        assert evaluate(tmp_path / str(side), held_out) == 0
    assert "pictures of 48 px are brought to the shards' 32 px" in capsys.readouterr().err
    (same,), (other,) = (documents(tmp_path / f"{side}-evaluation") for side in (32, 48))
    assert not same["protocols"].keys() & other["protocols"].keys()
    assert all(fields["pictures"].startswith("brought from 48 px") for fields in other["protocols"].values())
    owners = [str(tmp_path / f"{side}-evaluation") for side in (32, 48)]
    assert main(["report", *owners, "--out", str(tmp_path / "report.md")]) == 0


def test_without_classes_numbers_are_of_all(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three pictures: no numbers, exit code 1, and each is said to be missing; the rest is not touched."""
    for number in range(3):
        draw(tmp_path / "pictures" / f"{number}.png", number)
    (tmp_path / "pictures" / "notes\n.txt").write_text("not a picture")
    (tmp_path / "pictures" / ".hidden").write_text("")
    code = evaluate(tmp_path / "pictures", held_out)
    out, err = capsys.readouterr()
    assert "3 pictures, of no class" in err and "1 other files are not measured: 'notes\\n.txt'" in err
    (document,) = documents(tmp_path / "pictures-evaluation")
    assert "kid_x1000" in document["refused"] and "not computed: kid_x1000" in out
    assert code == (0 if document["metrics"] else 1)


def test_too_few_for_kid_is_said_before_anything_is_measured(
    held_out: Path,
    build_shards: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of real patients and of pictures; and with enough of both nothing is said."""

    def measure(*_: object) -> None:
        raise WorkError("measuring")

    monkeypatch.setattr(evaluation_measure, "evaluate", measure)
    pictures, few = tmp_path / "pictures", build_shards(24, 20, split="train=0.5,val=0.5")
    for number in range(64):
        draw(pictures / f"{number}.png", number)
    assert evaluate(pictures, few) == 1
    err = capsys.readouterr().err
    assert "val has 12 patients and train has 12 patients: they will not be computed" in err
    assert "--split train=0.6" in err and err.index("12 patients") < err.index("measuring")
    assert evaluate(pictures, held_out) == 1
    assert "patients" not in capsys.readouterr().err
    for number in range(10, 64):
        (pictures / f"{number}.png").unlink()
    assert evaluate(pictures, held_out) == 1
    assert "there are 10 generated images" in capsys.readouterr().err


def test_a_gpu_that_can_t_be_used_is_refused(
    generated: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As training refuses it: an evaluation on the CPU would take hours of a job that has a GPU."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(devices.Visible, "here", lambda: devices.Visible(0, "torch sees none"))
    words = ["evaluate", "--pictures", str(generated), "--data.shards", str(held_out), *OPTIONS]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "this job has GPUs (CUDA_VISIBLE_DEVICES=0), but torch sees none" in err and err.count("\n") == 1


def test_a_class_without_pictures(held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(64):
        draw(tmp_path / "pictures" / "Finding" / f"{number}.png", number)
    assert evaluate(tmp_path / "pictures", held_out) == 0
    assert "no picture is of class no_finding" in capsys.readouterr().err
    (document,) = documents(tmp_path / "pictures-evaluation")
    assert "kid_x1000" in {metric["name"] for metric in document["metrics"]}
    assert "kid_x1000/finding" in document["refused"]


def index(folder: Path, *rows: str, head: str = "file,label,audit") -> Path:
    (folder / "index.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def bomb(path: Path, side: int = 60_000) -> Path:
    """A small PNG that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + crc

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def cut(path: Path) -> Path:
    path.write_bytes(draw(path).read_bytes()[:-300])
    return path


def transparent(path: Path) -> None:
    Image.new("RGBA", (32, 32)).save(path)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (32, 32)).save(path, exif=exif)


def animated(path: Path) -> None:
    frames = [Image.new("L", (32, 32), shade) for shade in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def linked(folder: Path) -> None:
    outside = draw(folder.with_name("outside") / "patient.png")
    os.symlink(outside, folder / "link.png")


def linked_folder(folder: Path) -> None:
    outside = draw(folder.with_name("outside") / "patient.png")
    os.symlink(outside.parent, folder / "finding")


def oblong(path: Path) -> None:
    Image.new("L", (32, 33)).save(path)


HOSTILE: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "empty": (lambda folder: None, 2, ("no pictures in it",)),
    "text": (lambda folder: (folder / "a.png").write_text("text"), 1, ("a.png", "damaged")),
    "cut": (lambda folder: cut(folder / "a.png"), 1, ("a.png", "damaged")),
    "empty file": (lambda folder: (folder / "a.png").touch(), 1, ("a.png", "damaged")),
    "another format": (lambda folder: draw(folder / "a.png", format="TIFF"), 1, ("a.png", "ending")),
    "bomb": (lambda folder: bomb(folder / "a.png"), 2, ("a.png", "4096")),
    "large": (lambda folder: bomb(folder / "a.png", 5000), 2, ("a.png", "4096")),
    "tiny": (lambda folder: draw(folder / "a.png", side=4), 2, ("a.png", "8 to 4096")),
    "oblong": (lambda folder: oblong(folder / "a.png"), 2, ("a.png", "32 x 33", "square")),
    "two sizes": (
        lambda folder: [draw(folder / f"{side}.png", side=side) for side in (32, 64)],
        2,
        ("32.png", "64.png", "one size"),
    ),
    "transparent": (lambda folder: transparent(folder / "a.png"), 2, ("a.png", "RGBA", "transparency")),
    "turned": (lambda folder: turned(folder / "a.jpg"), 2, ("a.jpg", "EXIF")),
    "animated": (lambda folder: animated(folder / "a.png"), 2, ("a.png", "animation")),
    "DICOM": (lambda folder: (folder / "a.dcm").touch(), 2, ("a.dcm", "generate --format png")),
    "a link": (linked, 2, ("link.png", "link out of the folder")),
    "a link to a folder": (linked_folder, 2, ("finding", "link to a folder")),
    "a pipe": (lambda folder: os.mkfifo(folder / "a.png"), 2, ("a.png", "plain file")),
    "other subfolders": (
        lambda folder: draw(folder / "covid" / "a.png"),
        2,
        ("'covid'", "no_finding, finding"),
    ),
    "beside subfolders": (
        lambda folder: [draw(folder / "finding" / "a.png"), draw(folder / "b.png")],
        2,
        ("b.png", "in no subfolder"),
    ),
    "index, missing picture": (lambda folder: index(folder, "a.png,finding,"), 2, ("line 2", "a.png")),
    "index, outside": (
        lambda folder: [draw(folder.with_name("outside.png")), index(folder, "../outside.png,finding,")],
        2,
        ("line 2", "../outside.png"),
    ),
    "index, DICOM": (lambda folder: index(folder, "a.dcm,finding,"), 2, ("line 2", "export PNG")),
    "index, class": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,covid,")],
        2,
        ("line 2", "'covid'", "no_finding, finding"),
    ),
    "index, twice": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,finding,", "a.png,finding,")],
        2,
        ("line 3", "twice"),
    ),
    "index, some classes": (
        lambda folder: [
            draw(folder / "a.png"),
            draw(folder / "b.png"),
            index(folder, "a.png,finding,", "b.png,,"),
        ],
        2,
        ("b.png has no class",),
    ),
    "index, columns": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png,finding", head="name,class")],
        2,
        ("columns file and label",),
    ),
    "index, short row": (
        lambda folder: [draw(folder / "a.png"), index(folder, "a.png")],
        2,
        ("line 2", "missing"),
    ),
    "index, not text": (
        lambda folder: (folder / "index.csv").write_bytes(b"\xff\xfe\x00"),
        2,
        ("index.csv",),
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_can_t_be_measured_is_named(
    case: str, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code, expected = HOSTILE[case]
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)
    if "index" not in case and "empty" != case:
        for number in range(4 if "subfolders" not in case and case != "two sizes" else 0):
            draw(folder / f"sound-{number}.png", number)
    assert evaluate(folder, held_out) == code
    out, err = capsys.readouterr()
    problem = err.splitlines()[-1]
    assert out == "" and problem.startswith("chexdist: ") and "Traceback" not in err
    assert [part for part in expected if part not in problem] == [], err
    assert not list(tmp_path.glob("*-evaluation"))


MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neither": ((), ("RUN", "--pictures")),
    "both": (("{run}", "--pictures", "{pictures}"), ("either RUN or --pictures",)),
    "no shards": (("--pictures", "{pictures}"), ("--data.shards",)),
    "checkpoint": (("--pictures", "{pictures}", "--checkpoint", "best"), ("--checkpoint",)),
    "out of a run": (("{run}", "--out", "{tmp}/x"), ("--out", "--pictures")),
    "images of a run": (("{run}", "--images", "3"), ("--images", "--pictures")),
    "negative": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--images", "-1"),
        ("--images -1",),
    ),
    "nowhere": (("--pictures", "{tmp}/none", "--data.shards", "{shards}"), ("{tmp}/none", "no such folder")),
    "a file": (("--pictures", "{tmp}/file", "--data.shards", "{shards}"), ("{tmp}/file", "no such folder")),
    "split": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--split", "test"),
        ("--split test", "train, val"),
    ),
    "out inside": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{pictures}/numbers"),
        ("among the pictures",),
    ),
    "out of another": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{tmp}"),
        ("something else",),
    ),
    "out in a run": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{run}"),
        ("something else",),
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(
    case: str,
    run: Path,
    generated: Path,
    held_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("text")
    pictures = Path(shutil.copytree(generated, tmp_path / "pictures"))
    names = {"tmp": tmp_path, "run": run, "shards": held_out, "pictures": pictures}
    words, expected = ([word.format(**names) for word in part] for part in MISTAKES[case])
    capsys.readouterr()
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("chexdist: ") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == [], err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pictures"]


def test_a_class_is_named_as_in_the_sources(tmp_path: Path) -> None:
    draw(tmp_path / "No finding" / "a.png")
    draw(tmp_path / "Finding" / "deep" / "b.png", 1)
    found = read_pictures(tmp_path, CLASSES)
    assert found.labels is not None and found.labels.tolist() == [1, 0]
    assert [file.name for file in found.files] == ["b.png", "a.png"]
    with pytest.raises(UserError, match="no class of the shards"):
        read_pictures(tmp_path, ("a", "b"))


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    digest = read_pictures(tmp_path / "one", CLASSES).sha256
    assert read_pictures(tmp_path / "two", CLASSES).sha256 == digest
    draw(tmp_path / "two" / "a.png", 5)
    draw(tmp_path / "one" / "b.png", 5)
    assert len({digest, *(read_pictures(tmp_path / name, CLASSES).sha256 for name in ("one", "two"))}) == 3
