"""Trees as people and archives leave them: an index, backslashes, accents, archives, a folder too many."""

import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import class_folders, dicom, smooth, write_dicom, write_png

from shards.__main__ import main
from shards.errors import UserError
from shards.sources.listing import check_apart, class_name, list_class_folders

NFC, NFD = (unicodedata.normalize(form, "Entzündung") for form in ("NFC", "NFD"))


def counted(root: Path) -> dict[str, int]:
    images = list_class_folders([root]).images
    return {name: sum(image.label == name for image in images) for name in {image.label for image in images}}


def flat(root: Path, names: list[str]) -> Path:
    root.mkdir()
    for number, name in enumerate(names):
        write_png(root / name, number)
    return root


TREES: dict[str, tuple[list[str], dict[str, int], str]] = {
    "backslashes": (["A\\1.png", "A\\2.png", "B\\1.png"], {"a": 2, "b": 1}, "3 file names have backslashes"),
    "backslashes, deeper": (
        ["A\\x\\1.png", "B\\y\\1.png"],
        {"a": 1, "b": 1},
        "2 file names have backslashes",
    ),
    "both separators": (["A\\1.png", "B/1.png"], {"a": 1, "b": 1}, "1 file names have backslashes"),
    "splits with backslashes": (
        ["train\\A\\1.png", "train\\B\\1.png", "test\\A\\2.png", "test\\B\\2.png"],
        {"a": 2, "b": 2},
        "the folders test, train are no classes",
    ),
    "a folder too many": (["set/A/1.png", "set/B/1.png"], {"set": 2}, "it holds 2 folders"),
    "a folder of one folder": (["set/A/1.png", "set/A/2.png"], {"set": 2}, ""),
    "a class of many folders": ([f"set/{n}/1.png" for n in range(11)], {"set": 11}, ""),
    "one class": (["A/1.png", "A/2.png"], {"a": 2}, ""),
    "accents": ([f"{NFC}/1.png", f"{NFD}/2.png", "B/1.png"], {class_name(NFC): 2, "b": 1}, ""),
    "capitals": (["A/1.PNG", "B/1.Png"], {"a": 1, "b": 1}, ""),
}


@pytest.mark.parametrize("name", TREES)
def test_what_names_mean(name: str, tmp_path: Path) -> None:
    files, classes, note = TREES[name]
    root = flat(tmp_path / "in", files)
    notes = " ".join(list_class_folders([root]).notes)
    assert counted(root) == classes
    assert note in notes if note else not notes


def test_the_index_of_a_medium_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        values = (smooth(number) * 4095).astype(np.uint16)
        file = tmp_path / f"in/DICOM/PA{number // 2}/IM{number:06d}"
        write_dicom(file, dicom(values, 12, PatientID=f"p{number // 2}"))
    index = dicom(np.zeros((32, 32), np.uint16), 12, PixelData=None)
    for name in ("DICOMDIR", "DICOM/dicomdir"):
        write_dicom(tmp_path / "in" / name, index)
    options = ["--out", str(tmp_path / "out"), "--size", "32", "--workers", "1", "--split", "train=1"]
    assert main(["build", str(tmp_path / "in"), *options]) == 0
    said = capsys.readouterr().out
    assert "8 images" in said and "neither PNG, JPEG nor DICOM: 2" in said and "classes: dicom 8" in said


def test_archives_and_other_pictures_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "in", 3)
    with zipfile.ZipFile(root / "Finding/study.zip", "w") as archive:
        archive.writestr("a.dcm", b"")
    for name in ("a.dcm.gz", "b.TIF", "c.bmp", "Thumbs.db", ".DS_Store", "report.pdf", "clip.mp4", "empty"):
        (root / "Finding" / name).write_bytes(b"x" * (name != "empty"))
    options = ["--out", str(tmp_path / "out"), "--size", "32", "--workers", "1", "--split", "train=1"]
    assert main(["build", str(root), *options]) == 0
    said = capsys.readouterr()
    assert "neither PNG, JPEG nor DICOM: 9" in said.out and "classes: no_finding 3, finding 3" in said.out
    assert "files that may hold images are not read (1 .bmp, 1 .gz, 1 .tif, 1 .zip): unpack" in said.err


TWICE: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "equal": (lambda root: [root, root], "is given twice"),
    "another way to write it": (lambda root: [root, root / "Finding" / ".."], "is given twice"),
    "a link": (lambda root: [root, root.parent / "link"], "is given twice"),
    "inside": (lambda root: [root, root / "Finding"], "is in SOURCE"),
    "around": (lambda root: [root / "Finding", root], "is in SOURCE"),
    "inside by a link": (lambda root: [root.parent / "link" / "Finding", root], "is in SOURCE"),
}


@pytest.mark.parametrize("name", TWICE)
def test_one_source_twice_is_refused(name: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 1)
    (tmp_path / "link").symlink_to(root)
    sources, said = TWICE[name]
    with pytest.raises(UserError, match=said):
        check_apart(sources(root))
    check_apart([root / "Finding", root / "No_finding"])


def test_devices_pipes_and_folders_called_like_images(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 2)
    os.mkfifo(root / "Finding/pipe")
    (root / "Finding/null").symlink_to("/dev/null")
    (root / "Finding/folder.png").mkdir()
    write_png(root / "Finding/folder.png/inside.png", 50)
    listing = list_class_folders([root])
    assert len(listing.images) == 5 and listing.other_files == 2 and not listing.quarantine


def test_a_source_that_can_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root reads everything, the system's refusal is imitated."""
    (tmp_path / "in").mkdir()

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"no images in .*in \(\.: Permission denied\): put them there"):
        list_class_folders([tmp_path / "in"])
