"""Label files: each format is known by its columns, the rule over readers, and every fault is named."""

import gzip
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.xray_files import class_folders
from hypothesis import given
from hypothesis import strategies as st

import shards
from shards.errors import UserError
from shards.labels import LabelOptions, Labels, read_labels, table
from shards.labels.findings import RULES, classify, known_finding
from shards.labels.matching import list_with_labels, summary
from shards.quarantine import Code, Entry
from shards.sources.listing import Listing

VIN = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)
READERS = st.lists(st.frozensets(st.sampled_from(["mass", "nodule", "edema"])), min_size=1, max_size=5)


def vin_rows(image: str, *readers: str) -> str:
    """Rows of an image: for each reader the classes with `|` between; a box for all but "No finding"."""
    numbers = {"No finding": 14, "Cardiomegaly": 3, "Nodule/Mass": 8}
    return "".join(
        f"{image},{name},{numbers[name]},R{reader},{',,,' if name == 'No finding' else '1.0,2.0,3.0,4.0'}\n"
        for reader, classes in enumerate(readers)
        for name in classes.split("|")
    )


VIN_FILE = (
    VIN
    + vin_rows("none", *["No finding"] * 3)
    + vin_rows("one", "Cardiomegaly", "No finding", "No finding")
    + vin_rows("two", "Cardiomegaly|Cardiomegaly", "Nodule/Mass", "No finding")
    + vin_rows("three", "Nodule/Mass", "Nodule/Mass|Cardiomegaly", "Nodule/Mass")
)


def read(folder: Path, text: str | bytes, rule: str | None = None, finding: str | None = None) -> Labels:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path, LabelOptions(rule, (finding,) if finding else ()))


def classes(labels: Labels) -> dict[str, str | None]:
    return {name: image.label for name, image in labels.images.items()}


def codes(entries: list[Entry]) -> dict[str, Code]:
    return {entry.path: entry.code for entry in entries}


def listed(folder: Path, labels: Labels, *names: str) -> Listing:
    """The listing of a folder that holds files of these names; listing opens none of them."""
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(b"")
    return list_with_labels([folder / "in"], labels)


@given(READERS, st.sampled_from(["mass", None]), st.randoms(use_true_random=False))
def test_the_rules_count_readers(
    readers: list[frozenset[str]], finding: str | None, rng: random.Random
) -> None:
    needed = {"any": 1, "majority": len(readers) // 2 + 1, "all": len(readers)}
    found = {rule: classify(readers, rule, finding) for rule in RULES}
    for rule, least in needed.items():
        if sum(1 for marked in readers if marked) < least:
            expected = "no_finding"
        elif finding and sum(1 for marked in readers if finding in marked) < least:
            expected = None
        else:
            expected = "finding"
        assert found[rule] == expected
        assert classify(rng.sample(readers, len(readers)), rule, finding) == expected
        assert (found[rule] == "no_finding") == (classify(readers, rule) == "no_finding")
    strictest_last = [found[rule] == "finding" for rule in ("any", "majority", "all")]
    assert strictest_last == sorted(strictest_last, reverse=True)


@given(st.frozensets(st.sampled_from(["mass", "nodule"])), st.integers(1, 5), st.sampled_from([None, "mass"]))
def test_where_readers_agree_the_rules_agree(
    marked: frozenset[str], readers: int, finding: str | None
) -> None:
    assert len({classify([marked] * readers, rule, finding) for rule in RULES}) == 1


@pytest.mark.parametrize(
    ("rule", "finding", "expected"),
    [
        (None, None, ["no_finding", "finding", "finding", "finding"]),
        ("any", None, ["no_finding", "finding", "finding", "finding"]),
        ("majority", None, ["no_finding", "no_finding", "finding", "finding"]),
        ("all", None, ["no_finding", "no_finding", "no_finding", "finding"]),
        ("any", "cardiomegaly", ["no_finding", "finding", "finding", "finding"]),
        ("majority", "Cardiomegaly", ["no_finding", "no_finding", None, None]),
        ("all", "nodule/mass", ["no_finding", "no_finding", "no_finding", "finding"]),
    ],
)
def test_vinbigdata(
    tmp_path: Path, rule: str | None, finding: str | None, expected: list[str | None]
) -> None:
    labels = read(tmp_path, VIN_FILE, rule, finding)
    assert classes(labels) == dict(zip(["none", "one", "two", "three"], expected, strict=True))
    assert labels.settings["rule"] == (rule or "any")
    assert not labels.has_patients and not labels.warnings


def test_vinbigdata_files_are_found_by_their_id_wherever_they_are(tmp_path: Path) -> None:
    labels = read(tmp_path, VIN_FILE + vin_rows("both", "No finding|Cardiomegaly", "No finding"), "majority")
    listing = listed(tmp_path, labels, "a/none.dicom", "three.DCM", "b/c/two.png", "other.jpg", "both.png")
    found = {image.name: image.label for image in listing.images}
    assert found == {"a/none.dicom": "no_finding", "three.DCM": "finding", "b/c/two.png": "finding"}
    assert codes(listing.quarantine) == {
        "other.jpg": Code.NO_LABEL,
        "both.png": Code.CONFLICTING_LABEL,
        "one.dicom": Code.MISSING_FILE,
    }
    file, folders = summary(labels, listing)
    assert file.endswith(
        "(form VinBigData, rule majority): 5 images: 2 no_finding, 2 finding; contradictory rows: 1"
    )
    assert folders == "in the source folders: 1 no_finding, 2 finding; missing: 1; files without a row: 1"


def test_other_findings_are_left_out_and_never_missing(tmp_path: Path) -> None:
    labels = read(tmp_path, VIN_FILE, "majority", "Nodule/Mass")
    listing = listed(tmp_path, labels, "none.png", "two.png", "three.png")
    assert {image.name: image.label for image in listing.images} == {
        "none.png": "no_finding",
        "three.png": "finding",
    }
    assert codes(listing.quarantine) == {"one.dicom": Code.MISSING_FILE}
    file, folders = summary(labels, listing)
    assert file.endswith("4 images: 2 no_finding, 1 finding; only other findings, left out: 1")
    assert "1 no_finding, 1 finding; left out: 1; missing: 1; files" in folders
    text = VIN + vin_rows("a", "No finding") + vin_rows("b", "Cardiomegaly") + vin_rows("c", "Nodule/Mass")
    labels = read(tmp_path, text, None, "Cardiomegaly")
    assert not listed(tmp_path / "again", labels, "a.png", "b.png").quarantine


def test_unusual_readers_are_named(tmp_path: Path) -> None:
    text = VIN + vin_rows("a", "No finding", "Cardiomegaly") + vin_rows("b", *["Cardiomegaly"] * 4)
    text += vin_rows("c", "No finding|No finding", "No finding", "No finding")
    labels = read(tmp_path, text, "majority")
    assert classes(labels) == {"a": "no_finding", "b": "finding", "c": "no_finding"}
    assert labels.warnings[0].startswith("2 images do not have 3 readers (the first: 'a' has 2)")
    assert labels.warnings[1].startswith("1 rows repeat") and len(labels.warnings) == 2


def test_nih(tmp_path: Path) -> None:
    rows = [
        "1_0.png,No Finding,0,1,58,M,PA,2682,2749,0.143,0.143,",
        "1_1.png,Cardiomegaly|Pleural_Thickening,1,1,58,M,PA,2682,2749,0.143,0.143,",
        "2_0.png,Mass,0,2,70,F,AP,2500,2048,0.168,0.168,",
        "2_0.png,Mass,0,2,70,F,AP,2500,2048,0.168,0.168,",
        "3_0.png,No Finding|Mass,0,3,70,F,AP,2500,2048,0.168,0.168,",
        "4_0.png,No Finding,0,4,70,F,AP,2500,2048,0.168,0.168,",
        "4_0.png,No Finding,0,5,70,F,AP,2500,2048,0.168,0.168,",
    ]
    labels = read(tmp_path, NIH + "\n".join(rows))
    listing = listed(tmp_path, labels, *(f"images_0{n}/images/{n}_0.png" for n in (1, 2, 3, 4)))
    found = {image.name[-7:]: (image.label, image.patient) for image in listing.images}
    assert found == {"1_0.png": ("no_finding", "1"), "2_0.png": ("finding", "2")} and listing.has_patients
    assert codes(listing.quarantine) == {
        "images_03/images/3_0.png": Code.CONFLICTING_LABEL,
        "images_04/images/4_0.png": Code.CONFLICTING_LABEL,
        "1_1.png": Code.MISSING_FILE,
    }
    chosen = read(tmp_path, NIH + "\n".join(rows), None, "pleural thickening")
    assert classes(chosen)["1_1.png"] == "finding" and classes(chosen)["2_0.png"] is None
    assert chosen.settings == {"form": "NIH ChestX-ray14", "finding": "Pleural_Thickening"}


def test_faults_of_the_plain_format_are_listed(tmp_path: Path) -> None:
    text = (
        "path,label,patient\na.png,Finding,1\n./sub/b.png,No finding,2\nc.png,Finding,3\nc.png,No finding,3\n"
        "gone.png,Finding,4\n../secret.png,Finding,5\n/etc/passwd,Finding,6\n"
        f"nul\0.png,Finding,7\n{'long' * 999}.png,Finding,7\nnotes.txt,Finding,8\n"
    )
    labels = read(tmp_path, text)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    listing = listed(tmp_path, labels, "a.png", "sub/b.png", "c.png", "unlabelled.png")
    found = [(image.name, image.label, image.patient) for image in listing.images]
    assert found == [("a.png", "finding", "1"), ("sub/b.png", "no_finding", "2")]
    assert codes(listing.quarantine) == {
        "unlabelled.png": Code.NO_LABEL,
        "c.png": Code.CONFLICTING_LABEL,
        "gone.png": Code.MISSING_FILE,
        "../secret.png": Code.OUTSIDE_SOURCE,
        "/etc/passwd": Code.OUTSIDE_SOURCE,
        "nul\0.png": Code.MISSING_FILE,
        f"{'long' * 999}.png": Code.MISSING_FILE,
        "notes.txt": Code.NOT_AN_IMAGE,
    }


def test_one_image_in_two_files_and_a_class_without_images_are_refused(tmp_path: Path) -> None:
    labels = read(tmp_path, VIN_FILE)
    with pytest.raises(UserError, match="are the same image"):
        listed(tmp_path, labels, "none.png", "png/none.png")
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "one.png").write_bytes(b"")
    with pytest.raises(UserError, match="are the same image"):
        list_with_labels([tmp_path / "twice"] * 2, labels)
    with pytest.raises(UserError, match=r"no image of class finding is under .*: .* names 3"):
        listed(tmp_path / "half", labels, "none.png")
    with pytest.raises(UserError, match=r"whose first image is 'none.dicom'"):
        listed(tmp_path / "other", labels, "1.png")
    with pytest.raises(UserError, match="class b is under"):
        listed(tmp_path / "plain", read(tmp_path, "path,label\na.png,a\nb.png,b\n"), "a.png")


def test_gzip_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    plain = read(tmp_path, VIN_FILE)
    for text in (gzip.compress(VIN_FILE.encode()), b"\xef\xbb\xbf" + VIN_FILE.encode() + b"\n\r\n"):
        assert read(tmp_path, text).images == plain.images


MISTAKES: dict[str, tuple[str | bytes, LabelOptions, str]] = {
    "columns": (
        "file,class\na,b\n",
        LabelOptions(),
        r"fit no format[^$]*\(VinBigData\)[^$]*NIH[^$]*\[,patient\]",
    ),
    "two formats": (f"path,label,{VIN}", LabelOptions(), "fit more than one format"),
    "empty": ("", LabelOptions(), "fit no format"),
    "column twice": ("path,label,label\n", LabelOptions(), "label is there more than once"),
    "empty cell": (
        VIN + "a,No finding,14,\n",
        LabelOptions(),
        "line 2: an empty cell; each row needs its rad_id",
    ),
    "short row": ("path,label\na.png\n", LabelOptions(), "line 2: an empty cell"),
    "comma": ("path,label\na,b.png,finding\n", LabelOptions(), "line 2: 3 cells, but 2 columns"),
    "huge field": (f"path,label\na,{'x' * 200_000}\n", LabelOptions(), "larger than field limit"),
    "huge line": (f"path,label\na,{'x' * 2_000_000}\n", LabelOptions(), "line of more than"),
    "latin-1": ("path,label\nä,b\n".encode("latin-1"), LabelOptions(), "not a CSV file in UTF-8"),
    "open quote": ('path,label\n"a,b\n', LabelOptions(), "not a CSV file"),
    "cut gzip": (gzip.compress(VIN_FILE.encode())[:-9], LabelOptions(), "damaged gzip"),
    "bad gzip": (b"\x1f\x8bnot gzip at all", LabelOptions(), "damaged gzip"),
    "class id": (VIN + "a,Mass,x,R1\n", LabelOptions(), "line 2: class_id 'x' is not a whole number"),
    "14": (VIN + "a,Mass,14,R1\n", LabelOptions(), "14 and only 14 is No finding"),
    "not 14": (VIN + "a,No finding,3,R1\n", LabelOptions(), "14 and only 14 is No finding"),
    "id twice": (VIN + "a,Mass,1,R1\na,Edema,1,R1\n", LabelOptions(), "line 3: class_id 1 is 'Edema' here"),
    "two ids": (VIN + "a,Mass,1,R1\na,Mass,2,R1\n", LabelOptions(), "line 3: class 'Mass' has class_id 2"),
    "image path": (VIN + "../a,Mass,1,R1\n", LabelOptions(), "'../a' is not a file's name"),
    "nih path": (NIH + "x/a.png,Mass,0,1\n", LabelOptions(), "'x/a.png' is not a file's name"),
    "nih bar": (NIH + "a.png,Mass|,0,1\n", LabelOptions(), "'Mass|' not findings"),
    "nih patient": (NIH + "a.png,Mass,0,\n", LabelOptions(), "each row needs its Patient ID"),
    "rule nih": (NIH, LabelOptions(rule="all"), "needs several readers"),
    "rule plain": (
        "path,label\na,b\n",
        LabelOptions(rule="all"),
        "--label-rule needs a label file with findings",
    ),
    "finding plain": ("path,label\na,b\n", LabelOptions(findings=("Mass",)), "--finding needs a label file"),
    "unknown": (VIN_FILE, LabelOptions(findings=("Cardiomegally",)), "the nearest are: Cardiomegaly"),
    "no finding": (VIN_FILE, LabelOptions(findings=("no finding",)), "name a finding"),
    "unprintable": (VIN + "a,M\x07ss,1,R1\n", LabelOptions(), "can't be printed"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_two_lines_at_most(tmp_path: Path, name: str) -> None:
    text, options, expected = MISTAKES[name]
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path, text, options.rule, *options.findings)
    assert len(str(caught.value).splitlines()) <= 2 and len(str(caught.value)) < 700


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_CHARACTERS", 5000)
    with pytest.raises(UserError, match="more than 5000 in all"):
        read(tmp_path, gzip.compress(b"path,label\n" + b"a.png,b\n" * 1000))


@given(st.binary(max_size=300), st.sampled_from([VIN, NIH, "path,label\n", ""]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, head: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        read(folder, head.encode() + body)
    except UserError as refused:
        assert 10 < len(str(refused)) < 1500


def test_nearest_findings() -> None:
    names = ["Pleural effusion", "Pleural thickening", "Lung Opacity", "ILD"]
    assert known_finding("pleural_EFFUSION", names) == "Pleural effusion"
    with pytest.raises(UserError, match=r"nearest are: Pleural effusion, "):
        known_finding("effusion", names)
    with pytest.raises(UserError, match="nearest are: none"):
        known_finding("effusion", [])


MARKED = """\"\"\"A file of one column, with a mark behind each image that has a finding.\"\"\"

from shards.labels.labels import ImageLabel, LabelOptions, Labels
from shards.labels.table import Table

COLUMNS = ("marked image",)


def read(table: Table, options: LabelOptions) -> Labels:
    cells = [cell for (cell,) in table.rows(*COLUMNS)]
    images = {cell.rstrip("*"): ImageLabel("finding" if "*" in cell else "no_finding") for cell in cells}
    return Labels(table.path, images, str, {})
"""


def test_a_new_format_is_a_file_and_a_line(tmp_path: Path) -> None:
    """In a copy of the sources: help, the error for unknown columns, `build` and manifest know it."""
    shutil.copytree(Path(shards.__file__).parent, tmp_path / "shards")
    (tmp_path / "shards/labels/marked.py").write_text(MARKED)
    registry = tmp_path / "shards/labels/__init__.py"
    before = registry.read_text()
    registry.write_text(
        before.replace("FORMATS = {\n", 'FORMATS = {\n    "marked": "shards.labels.marked",\n')
    )
    assert len(registry.read_text().splitlines()) == len(before.splitlines()) + 1
    class_folders(tmp_path / "in", 3)
    names = sorted(path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*.png"))
    (tmp_path / "marked.csv").write_text(
        "\n".join(["marked image", *names[:3], *(f"{name}*" for name in names[3:])])
    )
    (tmp_path / "unknown.csv").write_text("image,diagnosis\n")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "shards", *words]
        return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "marked" in command("build", "--help").stdout
    refused = command("build", "in", "--labels", "unknown.csv", "--out", "out")
    assert refused.returncode == 2 and "marked image (marked); image_id,class_name" in refused.stderr
    built = command("build", "in", "--labels", "marked.csv", "--out", "out", "--size", "16", "--workers", "1")
    assert built.returncode == 0 and "(form marked): 6 images" in built.stdout, built.stderr
    content = json.loads((tmp_path / "out/manifest.json").read_text())
    assert content["build"]["labels"] == {"form": "marked"}
