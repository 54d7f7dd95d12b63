"""Patients that nobody is: placeholders and empty cells are unknown, counted, and never in two splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom, write_png
from hypothesis import given
from hypothesis import strategies as st

from shards.__main__ import main
from shards.errors import UserError
from shards.manifest import read
from shards.sources import patients
from shards.sources.listing import Source
from shards.sources.patients import UNKNOWN, check_several_patients, find_patients
from shards.sources.unknown import PLACEHOLDERS, known

NOBODY = [
    "",
    " ",
    "-",
    "--",
    "?",
    "nan",
    "NaN",
    "N/A",
    "n.a.",
    "none",
    "NULL",
    "unknown",
    "ANONYMOUS",
    "ANON",
]
NOBODY += ["Anonymized", "anonymised", "de-identified", "0", "000000", "0.0", "XXXX", "No Name", "\0", "^^^"]
PEOPLE = ["1", "10", "P0", "anon17", "Nanette", "s00", "9999", "x", "00012", "nan 3", "unknown-7", "漢字"]


@pytest.mark.parametrize("text", NOBODY)
def test_a_placeholder_names_nobody(text: str) -> None:
    assert known(text) is None


@pytest.mark.parametrize("text", PEOPLE)
def test_an_id_is_known(text: str) -> None:
    assert known(f" {text} ") == text


@given(st.sampled_from(sorted(PLACEHOLDERS)), st.sampled_from(["", " ", "-", "^", "_", "."]), st.booleans())
def test_case_and_signs_around_a_placeholder_do_not_count(word: str, sign: str, upper: bool) -> None:
    assert known(sign + (word.upper() if upper else word) + sign) is None


def sources(*cells: str | None) -> list[Source]:
    return [Source(0, str(number), f"/none/{number}", "a", cell) for number, cell in enumerate(cells)]


@given(st.lists(st.sampled_from(["p", "q", "", "nan", "0"]), min_size=2, max_size=12))
def test_images_without_a_patient_in_the_label_file_are_one_group(cells: list[str]) -> None:
    origin, found = find_patients(sources(*cells), [(None, None)] * len(cells), None, True, False)
    if not {"p", "q"} & set(cells):
        assert (origin, set(found)) == ("file", {None})  # a column that names nobody is no column
    else:
        expected = [cell if cell in ("p", "q") else UNKNOWN for cell in cells]
        assert (origin, found) == ("csv", expected)


def test_an_image_of_a_known_study_is_of_its_patient(capsys: pytest.CaptureFixture[str]) -> None:
    headers = [(None, "s"), (None, "s"), (None, None), (None, None)]
    assert find_patients(sources("p", "", "", "q"), headers, None, True)[1] == ["p", "p", UNKNOWN, "q"]
    assert "1 images have no patient in the label file" in capsys.readouterr().err


def test_placeholders_of_headers_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    headers = [("ANONYMOUS", "s"), ("ANONYMOUS", "s"), ("0", "t"), ("0", None), ("-", None), ("p", "u")]
    found = find_patients(sources(*[None] * 6), headers, None, False)
    assert found == ("dicom", ["study s", "study s", None, UNKNOWN, UNKNOWN, "p"])
    said = capsys.readouterr().err
    assert (
        "5 images have a PatientID that names nobody" in said and "2 images have no known PatientID:" in said
    )
    assert "2 images have no known PatientID and no study" in said and "1 images have no known" in said


def test_all_from_studies_says_so() -> None:
    headers: Sequence[tuple[str | None, str | None]] = [("anon", "s"), (None, "s"), (None, "t"), (None, "t")]
    assert find_patients(sources(*[None] * 4), headers, None, False)[0] == "study"


@pytest.mark.parametrize(
    ("origin", "cells", "names"),
    [("label file gives", ["p", "p", "p"], False), ("finds the same", [None] * 3, True)],
)
def test_one_patient_for_all_is_refused_before_anything_is_read(
    origin: str, cells: list[str | None], names: bool
) -> None:
    reader = (lambda source: "p") if names else None
    with pytest.raises(UserError, match=origin):
        check_several_patients(sources(*cells), reader, not names)
    with pytest.raises(UserError, match=origin):
        find_patients(sources(*cells), [(None, None)] * 3, reader, not names)
    assert find_patients(sources(*cells), [(None, None)] * 3, reader, not names, False)[1] == ["p"] * 3


def films(folder: Path, *headers: dict[str, str | None]) -> Path:
    for number, header in enumerate(headers):
        stored = (smooth(number) * 4000).astype(np.uint16)
        write_dicom(folder / f"{'ab'[number % 2]}/{number}.dcm", dicom(stored, 12, **header))
    return folder


@pytest.mark.parametrize(
    "header",
    [
        {"PatientID": "SAME"},
        {"PatientID": "SAME", "StudyInstanceUID": "1.2.3"},
        {"PatientID": "", "StudyInstanceUID": "1.2.3"},
        {"PatientID": "ANONYMOUS", "StudyInstanceUID": "1.2.3"},
        {"PatientID": "0"},
    ],
)
def test_headers_of_one_patient_are_refused_at_once_and_built_without_a_split(
    tmp_path: Path, header: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(films(tmp_path / "in", *[header] * 4)), "--size", "32", "--workers", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "can't be split by patient" in said and "--split train=1" in said and "scan" not in said
    assert main([*words, "--out", str(tmp_path / "out"), "--split", "train=1"]) == 0
    assert read(tmp_path / "out").splits["train"].patients == 1


def test_headers_are_read_up_to_the_second_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = films(tmp_path, *[{"PatientID": name} for name in "ppqrst"])
    images = [
        Source(0, path.name, str(path), "a") for path in sorted(folder.rglob("*.dcm"), key=lambda p: p.name)
    ]
    opened = []
    header = patients._read_header
    monkeypatch.setattr(patients, "_read_header", lambda path: opened.append(path) or header(path))
    check_several_patients(images, None, False)
    assert [Path(path).name for path in opened] == ["0.dcm", "1.dcm", "2.dcm"]
    (tmp_path / "a/0.dcm").write_bytes(b"DICM" * 100)
    check_several_patients(images[:2], None, False)  # what can't be read is left to the scan


@pytest.mark.parametrize("out", ["s3:bucket/x", "gs:x", "file:x"])
def test_an_address_is_no_folder(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    films(tmp_path / "in", {"PatientID": "p"})
    assert main(["build", str(tmp_path / "in"), "--out", out]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("below", ["x", "x/y", "x/y/z"])
@pytest.mark.parametrize("what", ["/dev/null", "file", "link"])
def test_a_folder_below_what_is_none_is_named(
    what: str, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(tmp_path / "in/a/1.png", 1)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    above = tmp_path / what  # which is /dev/null for an absolute one
    for more in ((), ("--part", "1/2")):
        assert main(["build", str(tmp_path / "in"), "--out", str(above / below), *more]) == 2
        assert f"{above} is not a folder" in capsys.readouterr().err
