"""`chexdist generate`: the same pictures again, no copies, each labelled; a folder is whole or absent."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.untrained import files, index, make_run
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from chexdist.__main__ import main
from shards.pixels.render import render_file


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional DCGAN."""
    return make_run(tmp_path_factory.mktemp("run"), shards, "dcgan", True, lambda gan: None)


@pytest.fixture(scope="module")
def unconditional(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), shards, "vanilla", False, lambda gan: None)


def test_same_pictures_again_and_fewer_are_the_first_of_more(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, n, seed in (("one", 70, 3), ("two", 70, 3), ("fewer", 9, 3), ("other", 9, 4)):
        assert (
            main(["generate", str(run), "--n", str(n), "--seed", str(seed), "--out", str(tmp_path / name)])
            == 0
        )
    one, two, fewer, other = (files(tmp_path / name) for name in ("one", "two", "fewer", "other"))
    assert one == two
    pictures = {name: content for name, content in one.items() if name.startswith("synthetic")}
    assert len(pictures) == 70 and len(set(pictures.values())) == 70
    first = {name: content for name, content in fewer.items() if name.startswith("synthetic")}
    assert len(first) == 9 and first.items() <= pictures.items()
    assert one["index.csv"].startswith(fewer["index.csv"])
    assert not set(first.values()) & set(other.values())
    out, err = capsys.readouterr()
    assert "70 synthetic X-rays" in out and "near-copies of 72 training images" in out
    assert "generating: 70/70" in err
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "fewer", "other"}


def test_a_picture_says_what_it_is(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"  # its parent is made too
    assert main(["generate", str(run), "--n", "20", "--out", str(out), "--checkpoint", "images-64"]) == 0
    rows = index(out)
    assert [row["index"] for row in rows] == [str(i) for i in range(20)]
    assert {row["label"] for row in rows} == {"finding", "no_finding"}
    for number, row in enumerate(rows):
        assert row["file"] == f"synthetic-{number:05}-{row['label']}.png"
        with Image.open(out / row["file"]) as image:
            assert (image.mode, image.size) == ("L", (32, 32))
            assert "Synthetic" in image.text["Title"] and "not a patient" in image.text["Title"]
            facts = {
                name: image.text[name] for name in ("checkpoint", "seed", "index", "label", "audit", "model")
            }
        assert facts == {
            "checkpoint": "images-64",
            "seed": "0",
            "index": row["index"],
            "label": row["label"],
            "audit": "passed",
            "model": "dcgan",
        }
    said = json.loads((out / "provenance.json").read_text())
    assert said["synthetic"] and said["audit"]["training_images"] == 72 and said["audit"]["drawn"] == 20
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 1100 and sheet.height > 500
    assert str(run) not in "".join(content.decode("latin-1") for content in files(out).values())


def test_dicom(run: Path, tmp_path: Path) -> None:
    """Readable by pydicom and the shard builder, the same pixels as the PNG, nobody's name, and no clock."""
    for name, kind in (("png", "png"), ("dcm", "dicom"), ("again", "dicom")):
        assert main(["generate", str(run), "--n", "5", "--format", kind, "--out", str(tmp_path / name)]) == 0
    assert files(tmp_path / "dcm") == files(tmp_path / "again")
    identifiers = set()
    for path in sorted((tmp_path / "dcm").glob("*.dcm")):
        data = pydicom.dcmread(path)
        pixels = np.asarray(Image.open(tmp_path / "png" / f"{path.stem}.png"))
        assert np.array_equal(data.pixel_array, pixels)
        field, patient, *_ = render_file(str(path))
        assert np.abs(field * 255 - pixels).max() < 1e-3
        assert patient and patient.startswith("SYNTHETIC-")
        assert data.file_meta.MediaStorageSOPClassUID == data.SOPClassUID == SecondaryCaptureImageStorage
        assert str(data.PatientName).startswith("Synthetic^") and data.SyntheticData == "YES"
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "SYNTHETIC"] and data.ConversionType == "SYN"
        assert "not a patient" in data.ImageComments and "checkpoint images-128" in data.ImageComments
        # type 2 of patient, study, series and image modules (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1, C.7.6.1)
        for keyword in (
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
        ):
            assert keyword in data
        for keyword in ("ReferringPhysicianName", "Modality", "SeriesNumber", "InstanceNumber"):
            assert keyword in data
        assert not any(element.value for element in data if element.VR in ("DA", "TM", "DT"))
        identifiers |= {data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID}
    assert len(identifiers) == 15


def test_label(run: Path, tmp_path: Path) -> None:
    """All pictures are of the class, and are those that it gives the same latents in a mixture."""
    for label in ("finding", "no_finding"):
        assert (
            main(["generate", str(run), "--n", "12", "--label", label, "--out", str(tmp_path / label)]) == 0
        )
        assert {row["label"] for row in index(tmp_path / label)} == {label}
    one, other = (
        {Image.open(path).tobytes() for path in (tmp_path / label).glob("synthetic*")}
        for label in ("finding", "no_finding")
    )
    assert not one & other
    assert main(["generate", str(run), "--n", "12", "--out", str(tmp_path / "both")]) == 0
    for row in index(tmp_path / "both"):
        mixed, alone = (
            Image.open(tmp_path / name / row["file"]).tobytes() for name in ("both", row["label"])
        )
        assert mixed == alone


def test_without_a_class(unconditional: Path, tmp_path: Path) -> None:
    assert main(["generate", str(unconditional), "--n", "3", "--out", str(tmp_path / "out")]) == 0
    assert [row["file"] for row in index(tmp_path / "out")] == [f"synthetic-0000{i}.png" for i in range(3)]
    assert {row["label"] for row in index(tmp_path / "out")} == {""}


def test_no_audit_is_said_everywhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(run), "--n", "3", "--no-audit", "--out", str(tmp_path / "out")]) == 0
    assert "audit: none" in capsys.readouterr().out
    assert {row["audit"] for row in index(tmp_path / "out")} == {"not audited"}
    assert json.loads((tmp_path / "out/provenance.json").read_text())["audit"] is None
    with Image.open(tmp_path / "out" / index(tmp_path / "out")[0]["file"]) as image:
        assert image.text["audit"] == "not audited"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_work_that_was_cut_short(
    error: BaseException, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    written: list[Path] = []

    def write(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise error
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", write)
    assert main(["generate", str(run), "--no-audit", "--out", str(tmp_path / "out")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert ("No space left" in last or "stopped" in last) and "not made" in last
    assert len(written) == 3 and not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_reported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/checkpoints/images-128/ema.safetensors").write_bytes(b"")
    assert main(["generate", str(tmp_path / "run"), "--n", "2", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "of images-64 in" in out and "images-128 is damaged" in err


def test_a_checkpoint_s_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In its run, alone, and the folder of all: the same pictures as by the run. A part of one is named."""
    alone = shutil.copytree(run / "checkpoints/images-64", tmp_path / "elsewhere")
    given = {
        "by run": [str(run), "--checkpoint", "images-64"],
        "in run": [str(run / "checkpoints/images-64")],
        "alone": [str(alone)],
        "all": [str(run / "checkpoints"), "--checkpoint", "images-64"],
    }
    for name, words in given.items():
        assert main(["generate", *words, "--n", "3", "--no-audit", "--out", str(tmp_path / name)]) == 0
    pictures = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")} for name in given]
    assert all(each == pictures[0] for each in pictures) and len(pictures[0]) == 4
    (alone / "state.json").unlink()
    capsys.readouterr()
    assert main(["generate", str(alone), "--n", "3", "--no-audit", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "but not its state.json" in err and "ema.safetensors" in err and "train it" not in err


MISTAKES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "none": (["--n", "0"], ("--n 0", "from 1 to")),
    "too many": (["--n", "100001"], ("--n 100001", "100000", "--seed")),
    "a word": (["--n", "many"], ("--n", "many", "--help")),
    "negative seed": (["--seed", "-1"], ("--seed -1", "from 0")),
    "large seed": (["--seed", str(2**63)], ("--seed", "from 0")),
    "format": (["--format", "jpeg"], ("--format", "png", "dicom")),
    "label": (["--label", "pneumonia"], ("--label pneumonia", "no_finding, finding")),
    "checkpoint": (["--checkpoint", "images-9"], ("images-9", "images-64, images-128")),
    "checkpoint elsewhere": (["--checkpoint", "../../x"], ("../../x", "images-64, images-128")),
    "no shards": (["--shards", "{tmp}/none"], ("{tmp}/none", "--shards DIR", "--no-audit")),
    "shards and no audit": (
        ["--data.shards", "{tmp}", "--no-audit"],
        ("--shards", "--no-audit", "one of the two"),
    ),
    "out is there": (["--out", "{tmp}/full"], ("{tmp}/full", "not an empty folder", "choose another")),
    "out is a file": (["--out", "{tmp}/full/file"], ("{tmp}/full/file", "not an empty folder")),
    "out is a link": (["--out", "{tmp}/link"], ("{tmp}/link", "not an empty folder")),
    "training's setting": (["--train.seed", "5"], ("--train.seed", "unknown option")),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    words, expected = MISTAKES[name]
    words = [word.format(tmp=tmp_path) for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    assert main(["generate", str(run), *words, *out]) == 2
    err = capsys.readouterr().err
    assert err.startswith("chexdist: ") and len(err.splitlines()) <= 2 and "Traceback" not in err
    for part in expected:
        assert part.format(tmp=tmp_path) in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link"]
    assert (tmp_path / "full/file").read_text() == "mine"


def test_mistakes_with_the_run(
    run: Path, unconditional: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    for words, expected in (
        ([str(tmp_path / "none")], "no such run directory"),
        ([str(unconditional), "--label", "finding"], "model.conditional"),
        ([str(run), "--shards", str(other)], "other shards than the run was trained on"),
    ):
        assert main(["generate", *words, *out]) == 2
        assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def other(build_shards: Callable[..., Path]) -> Path:
    """The shards of one patient more."""
    return build_shards(97, 20, split="train=0.75,val=0.25")


def test_one_process(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["generate", str(run), "--out", str(tmp_path / "out")]) == 2


def test_an_empty_folder_is_filled(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main(["generate", str(run), "--n", "1", "--no-audit", "--out", str(tmp_path / "out")]) == 0
    assert len(files(tmp_path / "out")) == 4


def test_shards_that_have_moved(run: Path, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/config.yaml"
    path.write_text(path.read_text().replace(str(shards), str(tmp_path / "gone")))
    words = ["generate", str(tmp_path / "run"), "--n", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert main([*words, "--shards", str(shards)]) == 0
