"""What headers say of the view, the body part and burnt-in text: counted, and refused by option."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom
from pydicom.dataset import Dataset

from shards import manifest
from shards.__main__ import main
from shards.options import REFUSABLE
from shards.pixels import stated as statements
from shards.pixels.stated import stated


def code(value: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue = value
    return [item]


def image(number: int = 0, **elements: Any) -> Dataset:
    return dicom((smooth(number) * 4095).astype(np.uint16), 12, PatientID=f"p{number}", **elements)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, ()),
        ({"ViewPosition": "LL"}, ("lateral",)),
        ({"ViewPosition": "RL"}, ("lateral",)),
        ({"ViewPosition": "LATERAL"}, ("lateral",)),
        ({"ViewPosition": "PA"}, ()),
        ({"ViewPosition": "LLD"}, ()),
        ({"ViewPosition": "PA", "PatientOrientation": ["A", "F"]}, ()),
        ({"PatientOrientation": ["A", "F"]}, ("lateral",)),
        ({"PatientOrientation": ["P", "F"], "ViewPosition": ""}, ("lateral",)),
        ({"PatientOrientation": ["L", "F"]}, ()),
        ({"ViewCodeSequence": code("R-10236")}, ("lateral",)),
        ({"ViewCodeSequence": code("R-10206")}, ()),
        ({"BodyPartExamined": "CHEST"}, ()),
        ({"BodyPartExamined": "Thorax ap"}, ()),
        ({"BodyPartExamined": ""}, ()),
        ({"BodyPartExamined": "HAND"}, ("not-chest",)),
        ({"BodyPartExamined": "ABDOMEN"}, ("not-chest",)),
        ({"BurnedInAnnotation": "YES"}, ("burned-in",)),
        ({"BurnedInAnnotation": "NO"}, ()),
        (
            {"BurnedInAnnotation": "YES", "ViewPosition": "LL", "BodyPartExamined": "KNEE"},
            ("lateral", "not-chest", "burned-in"),
        ),
    ],
)
def test_what_a_header_states(elements: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert stated(image(**elements)) == expected


def test_the_command_line_knows_each_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(statements.REFUSABLE) == REFUSABLE
    with pytest.raises(SystemExit):
        main(["build", "x", "--out", "y", "--refuse", "lateral,feet"])
    assert "lateral, not-chest, burned-in" in capsys.readouterr().err


@pytest.fixture
def source(tmp_path: Path) -> Path:
    odd = [{"ViewPosition": "LL"}, {"BodyPartExamined": "HAND"}, {"BurnedInAnnotation": "YES"}]
    for number in range(12):
        elements = odd[number] if number < 3 else {}
        write_dicom(tmp_path / "in" / "ab"[number % 2] / f"{number}.dcm", image(number, **elements))
    return tmp_path / "in"


def test_they_are_counted_and_packed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(source), "--out", str(tmp_path / "out"), "--size", "16", "--workers", "1"]) == 0
    said = capsys.readouterr().err
    for name in ("lateral", "not-chest", "burned-in"):
        assert any(
            line.startswith("1 images: ") and f"--refuse {name} " in line for line in said.splitlines()
        )
    assert manifest.read(tmp_path / "out").quarantine["total"] == 0
    assert main(["verify", str(tmp_path / "out")]) == 0
    shards = b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.tar"))
    assert shards.count(b'"burned_in": true') == 1


def test_they_are_refused_by_option(source: Path, tmp_path: Path) -> None:
    options = ["--size", "16", "--workers", "1", "--allow-quarantine", "3", "--out", str(tmp_path / "out")]
    assert main(["build", str(source), *options, "--refuse", "lateral,burned-in,not-chest"]) == 0
    assert manifest.read(tmp_path / "out").quarantine["codes"] == {
        "burned_in": 1,
        "lateral": 1,
        "not_chest": 1,
    }
    listed = (tmp_path / "out.quarantine.csv").read_text()
    assert "a/0.dcm,lateral," in listed and "b/1.dcm,not_chest," in listed and "a/2.dcm,burned_in," in listed
