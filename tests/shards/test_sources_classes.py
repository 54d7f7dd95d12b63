"""Names of classes: people's names and ids are refused, one class in two spellings and typos are named."""

from pathlib import Path

import pytest
from helpers.xray_files import write_png
from hypothesis import given
from hypothesis import strategies as st

from shards.__main__ import main
from shards.copies.equal import copy_notes
from shards.errors import UserError
from shards.manifest import read
from shards.sources.classes import check_classes, class_notes, edits, looks_like_a_person, nearly_equal
from shards.sources.listing import class_name

PEOPLE = [
    "DOE^JANE",
    "DOE^JANE^^^",
    "MILLER_ANNA",
    "Smith, Bob",
    "Jane Doe",
    "DOE_JOHN7",
    "anna",
    "Dr Mabuse",
]
PEOPLE += [
    "Wang_Xiaoming",
    "Müller-Lüdenscheidt Jürgen",
    "roe_richard",
    "GARCIA LOPEZ MARIA",
    "Kowalska_Zofia",
]
PEOPLE += [
    "1000452",
    "PAT00017",
    "patient_3",
    "Subject 12",
    "case-4",
    "1.2.840.113619",
    "1965-03-02",
    "MRN 88",
]
PEOPLE += [
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "00012",
    "study17",
    "ID4",
    "P001",
    "A1234",
    "101",
    "anon 3",
]
CLASSES = [
    "Finding",
    "No finding",
    "Pleural_Thickening",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
    "0",
    "1",
]
CLASSES += [
    "COVID-19",
    "COVID19",
    "Viral Pneumonia",
    "2019-nCoV",
    "TB",
    "grade_3",
    "class 2",
    "PNEUMONIA",
    "mass",
]
CLASSES += [
    "Support Devices",
    "Nodule/Mass",
    "No Lung Opacity / Not Normal",
    "normal",
    "ILD",
    "stage 4",
    "_1",
]
CLASSES += [
    "COVID-19 suspected",
    "healthy_control",
    "bacterial pneumonia",
    "aortic elongation",
    "image",
    "a",
    "b",
]


@pytest.mark.parametrize("name", PEOPLE)
def test_people_and_ids(name: str) -> None:
    assert looks_like_a_person(name)
    with pytest.raises(UserError, match="--many-classes"):
        check_classes({name: 400})


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name: str) -> None:
    assert not looks_like_a_person(name)
    check_classes({name: 400, "normal": 2})


SURNAMES = ["Miller", "Smith", "Garcia", "Tanaka", "Okafor", "Lindqvist"]


@pytest.mark.parametrize("count", range(3, 7))
def test_words_that_name_no_class_may_be_surnames(count: int) -> None:
    written = dict.fromkeys(SURNAMES[:count], 4)
    with pytest.raises(UserError, match=f"{count} of {count} folders in SOURCE are words that are not known"):
        check_classes(written)
    check_classes(dict.fromkeys(written, 20))
    check_classes(
        {**written, **dict.fromkeys(["tb", "mass", "normal", "nodule", "edema", "ild", "effusion"], 40)}
    )


def test_half_of_the_names_decide_and_one_caret() -> None:
    check_classes({"normal": 9, "mass": 9, "wet heaven": 9})
    with pytest.raises(UserError, match="2 of 4 folders"):
        check_classes({"normal": 9, "mass": 9, "wet heaven": 9, "Jane Doe": 9})
    with pytest.raises(UserError, match="1 of 3 labels"):
        check_classes({"normal": 9, "mass": 9, "DOE^J": 9}, "labels")


SPELLINGS = [("Finding", "finding"), ("NO_FINDING", "no_finding"), ("No Finding", "no finding")]
SPELLINGS += [
    ("No-Finding", "no finding"),
    ("No finding", "NO_FINDING"),
    ("1", "1.0"),
    ("2,0", "2"),
    ("TB", "tb"),
]
SPELLINGS += [("Covid-19", "COVID 19"), ("Pleural_Effusion", "pleural effusion"), ("Ödem", "ödem")]


@pytest.mark.parametrize(("first", "second"), SPELLINGS)
def test_spellings_of_one_class(first: str, second: str) -> None:
    assert class_name(first) == class_name(second)
    written = {first: 4, second: 2}
    (line,) = class_notes(written, {name: class_name(name) for name in written})
    assert repr(first) in line and repr(second) in line and f"are one class, {class_name(first)}: " in line


def test_one_class_in_two_spellings() -> None:
    (line,) = class_notes(
        {"Finding": 4, "finding": 2, "normal": 9},
        dict.fromkeys(["Finding", "finding"], "finding") | {"normal": "normal"},
    )
    assert line == "'Finding' and 'finding' are one class, finding: 4 images 'Finding', 2 images 'finding'"


NEAR = [("finding", "fnding"), ("no_finding", "no_findng"), ("no_finding", "nofinding"), ("normal", "norml")]
NEAR += [("pneumonia", "pnuemonia"), ("pneumonia", "pneumnia"), ("effusion", "efusions"), ("mass", "masss")]
NEAR += [("cardiomegaly", "cardiomegalie"), ("covid_19", "covd_19"), ("atelectasis", "atelektasis")]
FAR = [("finding", "no_finding"), ("normal", "abnormal"), ("class_a", "class_b"), ("grade_1", "grade_2")]
FAR += [("0", "1"), ("tb", "ta"), ("covid", "covid_19"), ("benign", "malignant"), ("left", "right")]
FAR += [("mass", "nodule"), ("viral_pneumonia", "bacterial_pneumonia"), ("pneumonia", "pneumothorax")]


@pytest.mark.parametrize(("first", "second"), NEAR)
def test_a_typo_is_reported_with_the_nearest_name(first: str, second: str) -> None:
    assert nearly_equal(first, second) and nearly_equal(second, first)
    (line,) = class_notes({first: 40, second: 1}, {first: first, second: second})
    assert f"class {second} (1 images)" in line and f"class {first} (40)" in line


@pytest.mark.parametrize(("first", "second"), FAR)
def test_names_of_two_classes_are_no_typos(first: str, second: str) -> None:
    assert not nearly_equal(first, second) and not nearly_equal(second, first)


def test_more_classes_than_anybody_means_take_no_time() -> None:
    names = [f"{number:x}y" for number in range(20_000)]
    assert class_notes(dict.fromkeys(names, 20), {name: name for name in names}) == []


@given(st.text("ab_", max_size=7), st.text("ab_", max_size=7))
def test_edits_are_a_distance(first: str, second: str) -> None:
    distance = edits(first, second, most=9)
    assert distance == edits(second, first, most=9) and (distance == 0) == (first == second)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
    assert edits(first + "x", second + "x", most=9) == distance


def test_copies_are_reported() -> None:
    names = ["a/1", "a/2", "b/3", "b/4"]
    assert copy_notes(names, [None] * 4, [1, 2, 3, 4], [1, 2, 3, 4]) == []
    copies, patients = copy_notes(names, ["p", "q", None, "p"], [1, 1, 3, 4], [1, 1, 3, 1])
    assert copies.startswith("1 images are exact copies of other files, such as 'a/2' of 'a/1'")
    assert patients == "1 pictures are of more than one patient, who stay in one split"


def build(folder: Path, *words: str) -> int:
    options = ("--out", str(folder / "out"), "--size", "32", "--workers", "1", "--split", "train=1")
    return main(["build", str(folder / "in"), *words, *options])


def test_a_build_of_people_s_folders_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(["DOE^JANE", "MILLER_ANNA", "SMITH_BOB", "ROE_RICHARD"] * 2):
        write_png(tmp_path / "in" / name / f"{number}.png", number)
    assert build(tmp_path) == 2 and "look like people's names" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert build(tmp_path, "--many-classes") == 0 and len(read(tmp_path / "out").classes) == 4


def test_a_build_tells_spellings_and_typos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(["Finding", "finding", "No_finding", "No_findng"]):
        write_png(tmp_path / "in" / name / f"{number}.png", number)
    write_png(tmp_path / "in/No_finding/more.png", 9)
    write_png(tmp_path / "in/Finding/copy.png", 0)
    assert build(tmp_path) == 0
    said = capsys.readouterr().err
    assert "'Finding' and 'finding' are one class, finding" in said and "class no_findng (1 images)" in said
    assert "1 images are exact" in said


def test_people_as_labels_of_a_table_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["path,label"]
    for number in range(4):
        write_png(tmp_path / f"in/{number}.png", number)
        rows.append(f"{number}.png,DOE JANE{number}")
    (tmp_path / "l.csv").write_text("\n".join(rows))
    assert build(tmp_path, "--labels", str(tmp_path / "l.csv")) == 2
    assert "4 of 4 labels in the label file look like people's names" in capsys.readouterr().err
