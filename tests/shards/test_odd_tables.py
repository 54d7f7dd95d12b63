"""Label files as spreadsheets leave them: rounded ids, lost zeros, errors in cells, headers twice."""

import unicodedata
from pathlib import Path

import pytest
from helpers.xray_files import class_folders, write_png

from shards.__main__ import main
from shards.errors import UserError
from shards.labels import LabelOptions, read_labels
from shards.labels.matching import list_with_labels
from shards.labels.paths import match_paths
from shards.sources.listing import Listing
from shards.sources.patients import find_patients
from shards.sources.unknown import SPREADSHEET_ERRORS, known

HEAD = "path,label,patient\n"


def listed(tmp_path: Path, text: str, names: list[str]) -> Listing:
    (tmp_path / "labels.csv").write_text(text)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(names):
        write_png(tmp_path / "in" / name, number)
    return list_with_labels([tmp_path / "in"], read_labels(tmp_path / "labels.csv", LabelOptions()))


REFUSED = {
    "an id that was rounded": (
        HEAD + "a.png,x,1\nb.png,y,1.2E+10\n",
        "line 3: the patient '1.2E\\+10' was ro",
    ),
    "with a comma": (HEAD.replace(",", ";") + "a.png;x;1,23E+12\n", "line 2: the patient '1,23E\\+12' was"),
    "without a fraction": (HEAD + "a.png,x,2E+09\n", "line 2: the patient '2E\\+09'"),
    "nan": (HEAD + "a.png,x,1\nb.png,nan,2\n", "line 3: the label 'nan' says that there is none"),
    "#N/A": (HEAD + "a.png,#N/A,1\n", "line 2: the label '#N/A'"),
    "#REF!": (HEAD + "a.png,#REF!,1\n", "line 2: the label '#REF!'"),
    "NULL": (HEAD + "a.png,NULL,1\n", "line 2: the label 'NULL'"),
    "NA": (HEAD + "a.png,NA,1\n", "line 2: the label 'NA'"),
    "the header again": (
        HEAD + "a.png,x,1\n" + HEAD + "b.png,y,2\n",
        "line 3: the names of the columns again",
    ),
    "no rows": (HEAD, "has no rows below"),
    "an open quote": (
        HEAD + 'a.png,x,1\nb.png,"y,2\nc.png,x,3\n',
        "is not a CSV file: what begins in line 3",
    ),
    "UTF-16 without its mark": ("p\0a\0t\0h\0,\0", "is not a CSV file in UTF-8"),
    "a title above": ("Chest X-rays,,\n" + HEAD + "a.png,x,1\n", "the first line has to name the columns"),
    "a comment above": ("# of 2023\n" + HEAD + "a.png,x,1\n", "the first line has to name the columns"),
    "a second header": (HEAD + "(text),(text),(id)\na.png,x,1\n", r"of class \(text\) .* such as '\(text\)'"),
    "lost zeros": (
        HEAD + "1.png,x,1\n",
        "'001.png' is there: write paths as files are called",
    ),
    "a lost ending": (HEAD + "001,x,1\n", "'001.png' is there"),
    "both": (HEAD + "1,x,1\n", "'001.png' is there"),
    "other case": (HEAD + "A.PNG,x,1\n", "'a.png' is there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_meant_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    text, said = REFUSED[name]
    with pytest.raises(UserError, match=said):
        listed(
            tmp_path, text, ["001.png", "a.png"] if "lost" in name or name == "both" else ["a.png", "b.png"]
        )


@pytest.mark.parametrize("label", ["1E+02 ", "none", "unknown", "0", "n", "nano", "No finding"])
def test_other_labels_are_classes(label: str, tmp_path: Path) -> None:
    listing = listed(tmp_path, f"path,label\na.png,{label}\nb.png,other\n", ["a.png", "b.png"])
    assert len(listing.images) == 2


@pytest.mark.parametrize("text", sorted(SPREADSHEET_ERRORS))
def test_an_error_in_a_cell_is_no_patient(text: str) -> None:
    assert known(text) is None and known(f" {text.lower()} ") is None
    assert known("#7") == "#7"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_paths(form: str, tmp_path: Path) -> None:
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = [unicodedata.normalize(form, f"Böhm/{n}ü.png") for n in range(3)]
    rows = [unicodedata.normalize(other, name) for name in names]
    matched, notes = match_paths(rows, names, [tmp_path])
    assert matched == dict(zip(rows, names, strict=True)) and "3 paths are" in notes[0]


def test_backslashes_in_names_of_files(tmp_path: Path) -> None:
    """Either side may have them."""
    names = ["A\\1.png", "B\\1.png"]
    assert match_paths(["A/1.png", "B/1.png"], names, [tmp_path])[0] == {
        "A/1.png": names[0],
        "B/1.png": names[1],
    }
    assert match_paths(names, names, [tmp_path])[0] == {name: name for name in names}


def test_two_files_of_one_form_are_not_guessed(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "ü.png") for form in ("NFC", "NFD")]
    assert match_paths(names, names, [tmp_path])[0] == {name: name for name in names}
    assert match_paths(["x/../ü.png"], ["a\\ü.png", "a/ü.png"], [tmp_path])[0] == {}


ONE = [
    ["P001", "p001"],
    ["7", "007"],
    ["PAT 1", "pat 1"],
    ["001", "1"],
    ["P001", "P1"],
    ["A-07-3", "a-7-3"],
    ["x", "X"],
    ["0012", "012", "12"],
]
TWO = [["1", "10"], ["P10", "P1"], ["100", "1"], ["1.01", "1.1"], ["p1", "q1"], ["1.2.03", "1.2.3"]]


@pytest.mark.parametrize("written", ONE)
def test_one_patient_in_several_forms(written: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    headers = [(patient, None) for patient in [*written, "other"]]
    _, patients = find_patients([None] * len(headers), headers, None, False)  # type: ignore[list-item]
    assert len(set(patients)) == 2 and patients[-1] == "other"
    assert "1 patients are written in several ways" in capsys.readouterr().err


@pytest.mark.parametrize("written", TWO)
def test_other_patients_stay_apart(written: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    headers = [(patient, None) for patient in written]
    assert find_patients([None] * 2, headers, None, False)[1] == written  # type: ignore[list-item]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "column", ["split", "Split", " SPLIT ", "subset", "set", "fold", "Partition", "data split"]
)
def test_a_column_of_splits_is_named(column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It isn't read, and could put a patient into two splits."""
    class_folders(tmp_path / "in", 4)
    rows = [
        f"{path.relative_to(tmp_path / 'in')},{path.parent.name},train"
        for path in (tmp_path / "in").rglob("*.png")
    ]
    (tmp_path / "labels.csv").write_text("\n".join([f"path,label,{column}", *rows]) + "\n")
    words = ["build", str(tmp_path / "in"), "--labels", str(tmp_path / "labels.csv"), "--size", "8"]
    assert main([*words, "--out", str(tmp_path / "out"), "--workers", "1", "--split", "train=1"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "is not read" in line]
    assert len(said) == 1 and repr(column.strip()) in said[0] and "--split divides by patient" in said[0]
