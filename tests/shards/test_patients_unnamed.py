"""Patients that a label file calls otherwise, or whose PatientID is empty: no person in two splits."""

import json
import tarfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from PIL import Image

from shards.__main__ import main
from shards.errors import UserError
from shards.labels.plain import patient_columns
from shards.sources.listing import Source
from shards.sources.patients import find_patients

OPTIONS = ("--size", "32", "--workers", "1", "--split", "train=0.5,val=0.25,test=0.25")


def built(folder: Path, column: str, patients: list[str]) -> dict[str, set[str]]:
    """The splits of each patient, after a build of a picture of each of `patients`."""
    rows = [f"path,label,{column}"]
    (folder / "in").mkdir()
    for number, patient in enumerate(patients):
        Image.fromarray((smooth(number) * 255).astype(np.uint8)).save(folder / f"in/{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 3 % 2]},{patient}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    words = [str(folder / "in"), "--labels", str(folder / "labels.csv"), "--out", str(folder / "out")]
    assert main(["build", *words, *OPTIONS]) == 0
    return splits_of_patients(folder / "out")


def splits_of_patients(out: Path) -> dict[str, set[str]]:
    """The splits of each patient's images, by the samples' own JSON."""
    found = defaultdict(set)
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    about = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    found[about["patient"]].add(path.name.partition("-")[0])
    return found


@pytest.mark.parametrize(
    "column",
    ["patient_id", "PatientID", "Patient ID", "subject", "Subject-Id", "PATIENT", "PtID", "MRN", "case_id"],
)
def test_a_column_of_patients_by_another_name(column: str, tmp_path: Path) -> None:
    found = built(tmp_path, column, [f"s{number // 4:02d}" for number in range(48)])
    assert len(found) == 12 and all(len(splits) == 1 for splits in found.values())


WRITTEN: dict[str, Callable[[int], str]] = {
    ".0": lambda number: f"{number}.0",
    ".00": lambda number: f"{number}.00",
    "zeros": lambda number: f"{number:06d}",
    "zeros and .0": lambda number: f"{number:06d}.0",
    "spaces": lambda number: f" {number} ",
    "a no-break space": lambda number: f"{number}\xa0",
    "quotes": lambda number: f'"{number}"',
    "quotes and .0": lambda number: f'"{number}.0"',
    "a point": lambda number: f"{number}.",
    "Excel's text": lambda number: f'"=""{number}"""',
    "Excel's apostrophe": lambda number: f"'{number}",
}


@pytest.mark.parametrize("way", WRITTEN)
def test_one_patient_written_in_two_ways(way: str, tmp_path: Path) -> None:
    """Some as 1000 and 1000.0, and one as 1011.0 alone."""
    numbers = [1000 + number // 4 for number in range(48)]
    found = built(
        tmp_path,
        "patient",
        [WRITTEN[way](n) if i % 2 or n == 1011 else str(n) for i, n in enumerate(numbers)],
    )
    assert len(found) == 12 and all(len(splits) == 1 for splits in found.values())


def test_several_columns_of_patients_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "labels.csv").write_text("path,label,patient,subject_id\na.png,a,1,2\n")
    words = [str(tmp_path / "in"), "--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out")]
    assert main(["build", *words, *OPTIONS]) == 2
    assert "patient and subject_id" in capsys.readouterr().err


def test_columns_that_may_have_been_meant_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert patient_columns(["path", "label", "patient_code", "PatientAge"]) == []
    assert "patient_code, PatientAge" in capsys.readouterr().err
    assert patient_columns(["path", "label", "age"]) == [] and not capsys.readouterr().err


def test_views_of_a_study_stay_in_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(48):
        stored = (smooth(number) * 4000).astype(np.uint16)
        header = {"PatientID": "", "StudyInstanceUID": f"1.2.3.{number // 2}"}
        write_dicom(tmp_path / f"in/{'ab'[number % 2]}/{number}.dcm", dicom(stored, 12, **header))
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *OPTIONS]) == 0
    assert "48 images have no PatientID: those of one study" in capsys.readouterr().err
    found = splits_of_patients(tmp_path / "out")
    assert len(found) == 24 and all(len(splits) == 1 for splits in found.values())


def test_a_study_with_a_patient_lends_its_name() -> None:
    headers = [(None, "s"), ("p", "s"), (None, "s"), (None, "t"), (None, None), ("p", "u"), (None, "u")]
    images = [Source(0, str(number), str(number), "a") for number in range(len(headers))]
    assert find_patients(images, headers, None, False) == ("dicom", ["p", "p", "p", None, None, "p", "p"])
    with pytest.raises(UserError, match="same PatientID"):
        find_patients(images[:2], [("x", "s"), ("x", "t")], None, False)
