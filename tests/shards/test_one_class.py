"""`--one-class`: trees of patients, as hospitals export them, without a class or a name in any sample."""

import json
import tarfile
from pathlib import Path

import pytest
from helpers.xray_files import dicom, smooth, write_dicom, write_png

from shards import manifest
from shards.__main__ import main
from shards.identity import load_key

OPTIONS = ("--size", "32", "--workers", "1")
NAMES = ("DOE_JANE", "SMITH^JOHN", "Meyer_Anna", "1000452", "Rossi_Mario", "PAT00017")


def exported(root: Path, patients: int = 12, images: int = 2, first: int = 0) -> Path:
    """`root/NAME_OF_PATIENT/STUDY/number.dcm`."""
    for number in range(patients * images):
        patient = number // images
        folder = root / f"{NAMES[patient % len(NAMES)]}{patient}" / "study"
        stored = (smooth(first + number) * 4000).astype("u2")
        write_dicom(folder / f"{number}.dcm", dicom(stored, 12, PatientID=f"id{patient}"))
    return root


@pytest.mark.parametrize("suffix", ["", "/", "/.", "/../export"])
def test_a_tree_of_patients_is_refused_with_the_option_that_builds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    source, out = f"{exported(tmp_path / 'export')}{suffix}", tmp_path / "out"
    assert main(["build", source, "--out", str(out), *OPTIONS]) == 2
    refusal = capsys.readouterr().err
    assert "--one-class" in refusal and refusal.count("\n") == 1
    assert main(["build", source, "--out", str(out), *OPTIONS, "--one-class"]) == 0
    assert "24 images in 12 folders are of one class" in capsys.readouterr().err
    content = manifest.read(out)
    assert content.classes == ["image"] and content.build["patients"] == "dicom"
    assert sum(split.patients for split in content.splits.values()) == 12
    for path in out.iterdir():
        assert not any(name.encode() in path.read_bytes() for name in NAMES)


def test_images_beside_the_folders_count_as_well_and_masks_do_not(tmp_path: Path) -> None:
    for number in range(6):
        write_png(tmp_path / f"in/Normal/images/{number}.png", number)
        write_png(tmp_path / f"in/Normal/masks/{number}.png", number + 50)
        write_png(tmp_path / f"in/COVID/images/{number}.png", number + 100)
    write_png(tmp_path / "in/beside.png", 200)
    words = ["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *OPTIONS, "--one-class"]
    assert main(words) == 0
    content = manifest.read(tmp_path / "out")
    assert content.classes == ["image"]
    assert sum(split.samples for split in content.splits.values()) == 13


def test_it_contradicts_a_label_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "in/a.png", 1)
    (tmp_path / "labels.csv").write_text("path,label\na.png,a\n")
    words = ["build", str(tmp_path / "in"), "--labels", str(tmp_path / "labels.csv"), "--one-class"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "leave one" in capsys.readouterr().err


def test_more_patients_come_to_such_a_set(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["build", str(exported(tmp_path / "a")), "--out", str(out), *OPTIONS, "--one-class"]) == 0
    more = exported(tmp_path / "b", patients=16, images=3, first=100)
    assert main(["append", str(out), str(more), "--workers", "1"]) == 2
    assert main(["append", str(out), str(more), "--workers", "1", "--one-class"]) == 0
    found: dict[str, set[str]] = {}
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    said = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    found.setdefault(said["patient"], set()).add(path.name.partition("-")[0])
    names = load_key(Path(f"{out}.key"))
    assert set(found) == {names.name("patient", f"id{number}".encode()) for number in range(16)}
    assert all(len(splits) == 1 for splits in found.values())
