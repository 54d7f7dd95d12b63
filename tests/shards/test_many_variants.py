"""Faults of inputs in many variants, made by a generator for each kind: at least ten of each."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.xray_files import class_folders, dicom, smooth, write_dicom, write_png

from shards import manifest
from shards.__main__ import main
from shards.checking.verify import verify
from shards.errors import UserError, WorkError
from shards.labels import LabelOptions, read_labels
from shards.labels.matching import list_with_labels
from shards.labels.plain import PATIENT_COLUMNS, patient_columns
from shards.pixels.stated import BURNED_IN, stated
from shards.pixels.synthetic import dicom_says_synthetic
from shards.refusals import check_address
from shards.sources.listing import Source, check_apart, list_class_folders
from shards.sources.patients import UNKNOWN, find_patients

SMALL = ["--size", "8", "--workers", "1"]


def ways_to_write(folder: Path, links: Path) -> Iterator[Path]:
    """Other paths of a folder."""
    yield Path(f"{folder}/")
    yield folder / "."
    yield folder / "Finding" / ".."
    yield folder.parent / "nowhere" / ".." / folder.name
    yield Path(os.path.relpath(folder))
    yield Path(f"{folder.parent}//{folder.name}")
    for number, target in enumerate((folder, links / "0", "0", "../links/1")):
        (links / f"{number}").symlink_to(target)
        yield links / f"{number}"


def test_one_source_in_every_way_to_write_it_twice(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 1)
    (tmp_path / "links").mkdir()
    (tmp_path / "nowhere").mkdir()
    tried = 0
    for other in ways_to_write(root, tmp_path / "links"):
        for sources in (
            [root, other],
            [other, root],
            [tmp_path / "nowhere", other, root],
            [other / "Finding", root],
            [root, other / "No_finding"],
        ):
            with pytest.raises(UserError, match="there twice"):
                check_apart(sources)
            tried += 1
    assert tried == 50


LAYOUTS = [
    ["1.png", "2.png"],
    ["1.PNG", "2.JPG".replace("JPG", "png")],
    ["a b.png", "ü.png"],
    ["-1.png", "--out.png"],
    ["1..png", "2.x.png"],
    [f"{number}.png" for number in range(30)],
    ["1.png", "2.png", "notes.txt"],
    ["1.png", ".hidden/2.png"],
    ["1.png", "empty/notes.txt"],
    ["1.png", "MONO\\2.png".replace("\\", "_")],
    ["CON.png", "nul.png"],
]


@pytest.mark.parametrize("number", range(len(LAYOUTS)))
def test_a_folder_of_pictures_is_one_class(number: int, tmp_path: Path) -> None:
    for seed, name in enumerate(LAYOUTS[number]):
        write_png(tmp_path / "in" / name, seed) if name.lower().endswith(".png") else (
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True),
            (tmp_path / "in" / name).write_text("x"),
        )
    images = list_class_folders([tmp_path / "in"]).images
    seen = [name for name in LAYOUTS[number] if name.lower().endswith(".png") and not name.startswith(".")]
    assert sorted(image.name for image in images) == sorted(seen)
    assert {image.label for image in images} == {"image"}


SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    str.upper,
    str.title,
    lambda name: f" {name} ".strip(),
    lambda name: name.replace("id", "_id"),
    lambda name: name.replace("id", " ID"),
    lambda name: name.replace("number", "-Number"),
)


@pytest.mark.parametrize("name", PATIENT_COLUMNS)
def test_every_name_of_a_column_of_patients_in_every_spelling(name: str) -> None:
    for spell in SPELLINGS:
        assert patient_columns(["path", "label", spell(name), "age"]) == [spell(name)]


def sources(cells: list[str | None]) -> list[Source]:
    return [Source(0, str(number), str(number), "a", cell) for number, cell in enumerate(cells)]


BLANKS = [
    None,
    "",
    " ",
    "   ",
    "\0",
    " \0",
    "-",
    ".",
    "?",
    "n/a",
    "ANONYMOUS",
    "Anonymized",
    "0",
    "0000",
    "xxx",
    "nan",
]


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_patient_leaves_the_study_together(blank: str | None) -> None:
    rng = random.Random(str(blank))
    for _ in range(10):
        studies = [f"1.2.{rng.randrange(4)}" for _ in range(12)]
        headers = [(None if blank is None else blank.strip() or None, study) for study in studies]
        origin, patients = find_patients(sources([None] * 12), headers, None, False)
        assert origin == "study"
        of_study = {study: patient for study, patient in zip(studies, patients, strict=True)}
        assert [of_study[study] for study in studies] == patients
        several = {study for study in studies if studies.count(study) > 1}
        assert len({of_study[study] for study in several}) == len(several)
        assert all(of_study[study] for study in several)


@pytest.mark.parametrize("blank", [blank for blank in BLANKS if blank])
def test_most_images_of_a_placeholder_are_not_one_person(
    blank: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """50 of 60 headers have it: what is known stays, the rest is one group, which a line counts."""
    headers = [(blank.strip() or None, None)] * 50 + [(f"p{number}", None) for number in range(10)]
    origin, patients = find_patients(sources([None] * 60), headers, None, False)
    assert origin == "dicom" and patients[50:] == [f"p{number}" for number in range(10)]
    assert set(patients[:50]) == {UNKNOWN if blank.strip() else None}
    assert "50 images have" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cell", ["", " ", "\t", '""', "nan", "N/A", "-", "#N/A", "none", "unknown", "null", "?"]
)
def test_an_empty_cell_of_a_patient(cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Anywhere in the table, even where it ends the file: an unknown patient, in one split, counted."""
    root = class_folders(tmp_path / "in", 6)
    names = [(path.relative_to(root), path.parent.name) for path in sorted(root.rglob("*.png"))]
    for at in ((0,), (11,), (1, 2, 9), (5,)):
        rows = [
            f"{name},{label},{cell if n in at else f'p{n // 2}'}" for n, (name, label) in enumerate(names)
        ]
        (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
        listing = list_with_labels([root], read_labels(tmp_path / "labels.csv", LabelOptions()))
        assert len(listing.images) == 12 and not listing.quarantine
        capsys.readouterr()
        origin, patients = find_patients(listing.images, [(None, None)] * 12, None, True)
        assert origin == "csv" and patients.count(UNKNOWN) == len(at)
        assert f"{len(at)} images have no patient" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [{0}, {11}, {3}, {4, 5}, {0, 11}, {1, 3, 7}, {2}, {6}, {9}, {10, 2}])
def test_missing_files_are_accepted_afterwards(missing: set[int], tmp_path: Path) -> None:
    root = class_folders(tmp_path / "in", 6)
    names = [path.relative_to(root) for path in sorted(root.rglob("*.png"))]
    rows = [f"{name},{name.parent},p{number}" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    for number in missing:
        (root / names[number]).unlink()
    words = ["build", str(root), "--labels", str(tmp_path / "labels.csv"), "--out", str(tmp_path / "out")]
    assert main([*words, *SMALL]) == 1
    built = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main([*words, *SMALL, "--allow-missing", str(len(missing) - 1)]) == 1
    assert main([*words, *SMALL, "--allow-missing", str(len(missing))]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == built
    assert not (tmp_path / "out.work").exists()


FLAGS = [
    *("YES", " YES", "YES ", "yes", "Yes"),
    *(["YES"], ["YES", "NO"], ["yes", "YES"]),
    *("NO", "no", "", None, "YESTERDAY", "Y", ["NO"]),
]


@pytest.mark.parametrize("number", range(len(FLAGS)))
def test_flags_of_a_header(number: int, tmp_path: Path) -> None:
    """As pydicom reads them back, of the first value, in any case."""
    value = FLAGS[number]
    elements = {} if value is None else {"BurnedInAnnotation": value, "SyntheticData": value}
    dataset = dicom((smooth(1) * 4095).astype(np.uint16), 12, **elements)
    first = value[0] if isinstance(value, list) else value
    said = (first or "").strip().upper() == "YES"
    assert (BURNED_IN in stated(dataset)) == said
    assert dicom_says_synthetic(dataset) == said
    write_dicom(tmp_path / "in/a/0.dcm", dataset)
    for other in range(1, 4):
        write_dicom(tmp_path / f"in/a/{other}.dcm", dicom((smooth(other) * 4095).astype(np.uint16), 12))
    words = ["build", str(tmp_path / "in"), *SMALL, "--split", "train=1", "--out"]
    assert main([*words, str(tmp_path / "out")]) == (1 if said else 0)
    refused = ["--allow-synthetic", "--refuse", "burned-in"]
    assert main([*words, str(tmp_path / "refused"), *refused]) == (1 if said else 0)
    aside = [manifest.read(tmp_path / name).quarantine["codes"] for name in ("out", "refused")]
    assert aside == ([{"synthetic": 1}, {"burned_in": 1}] if said else [{}, {}])


HEADERS: list[dict[str, Any]] = [
    {"PatientID": name, **study}
    for name in ("SAME", "1", "Doe^Jane", "same ", "ÄÖ")
    for study in ({}, {"StudyInstanceUID": "1.2.3"})
]


@pytest.mark.parametrize("header", HEADERS)
def test_one_patient_is_refused_at_once_and_built_into_one_split(
    header: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        values = (smooth(number) * 4095).astype(np.uint16)
        encoding = {"SpecificCharacterSet": "ISO_IR 192"}
        write_dicom(tmp_path / f"in/{'ab'[number % 2]}/{number}.dcm", dicom(values, 12, **encoding, **header))
    words = ["build", str(tmp_path / "in"), *SMALL, "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "--split train=1" in said and "scan" not in said
    for one in ("train=1", "train=1.0,val=0", "train=1,val=0,test=0"):
        out = tmp_path / one
        assert main([*words[:-1], str(out), "--split", one]) == 0
        assert manifest.read(out).splits["train"].samples == 4


@pytest.mark.parametrize(
    "scheme", ["s3", "gs", "gcs", "az", "abfs", "hdfs", "http", "https", "ftp", "file", "webdav+x"]
)
def test_an_address_is_no_folder(scheme: str) -> None:
    for rest in ("bucket/x", "/bucket/x", "b", "/b"):
        with pytest.raises(UserError, match="no folder of this machine"):
            check_address(Path(f"{scheme}:{rest}"))
    check_address(Path(f"{scheme}/bucket"))
    check_address(Path(f"./{scheme}_/x:y"))


def leaves(content: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every number, text and null."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else None
    )
    if items is None:
        yield where
        return
    for name, value in items:
        yield from leaves(value, (*where, name))


def changed(value: Any) -> Any:
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    return not value if isinstance(value, bool) else value + 1 if value is not None else "x"


def test_every_entry_of_a_manifest_edited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Left out, or another value: found, whatever it is."""
    source = class_folders(tmp_path / "in", 3)
    words = ["build", str(source), *SMALL, "--patient-pattern", "^(....)", "--split", "train=0.5,val=0.5"]
    out = tmp_path / "out"
    assert main([*words, "--out", str(out)]) == 0
    right = (out / manifest.FILE).read_bytes()
    places = list(leaves(json.loads(right)))
    assert len(places) > 80
    for place in places:
        for remove in (False, True):
            content = json.loads(right)
            parent = content
            for name in place[:-1]:
                parent = parent[name]
            if remove:
                del parent[place[-1]]
            else:
                parent[place[-1]] = changed(parent[place[-1]])
            (out / manifest.FILE).write_bytes(manifest.encoded(content) + b"\n")
            try:
                assert verify(out) == 1, (place, remove)
            except WorkError:
                pass
    (out / manifest.FILE).write_bytes(right)
    capsys.readouterr()
    assert verify(out) == 0
