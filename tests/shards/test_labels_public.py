"""Label files of public sets, each a small table in its own form: classes, patients, views, and faults."""

from pathlib import Path

import pytest
from helpers.xray_files import write_png
from hypothesis import given
from hypothesis import strategies as st

from shards.__main__ import main
from shards.errors import UserError
from shards.labels import LabelOptions, Labels, observations, padchest, read_labels
from shards.labels.matching import list_with_labels, summary
from shards.labels.views import FRONTAL, LATERAL, view_of
from shards.manifest import read as read_manifest
from shards.quarantine import Code

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices\n"
)
CHEXPERT_ROWS = """\
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,
CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,
CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,41,Frontal,AP,,,,,,1.0,,,,0.0,,,,
CheXpert-v1.0-small/train/patient00004/study1/view1_frontal.jpg,Female,20,Frontal,PA,1.0,0.0,,,,,0.0,,,,0.0,,,
CheXpert-v1.0-small/train/patient00005/study1/view1_frontal.jpg,Male,33,Frontal,PA,,,,,,-1.0,,,,,,,,
CheXpert-v1.0-small/train/patient00006/study1/view1_frontal.jpg,Male,42,Frontal,AP,,,,,,,,,,0.0,0.0,,,1.0
CheXpert-v1.0-small/train/patient00007/study1/view1_frontal.jpg,Male,69,Frontal,AP,1.0,,,,,1.0,,,,,,,,
"""
MIMIC = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
    "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,"
    "Support Devices\n"
)
MIMIC_ROWS = """\
10000032,50414267,,,,,,,,,1.0,,,,,
10000032,53189527,,,,,,,,,1.0,,,,,
10000764,57375967,,,1.0,,,,,,,,,-1.0,,
10000898,50771383,,,,-1.0,,,,,,,,,,
10000935,50578979,,,,,,,1.0,1.0,,0.0,,-1.0,,
"""
PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
    "Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
    "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,"
    "WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,"
    "ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,"
    "Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS\n"
)
RSNA = "patientId,x,y,width,height,Target\n"
SIIM = "ImageId, EncodedPixels\n"
UID = "1.2.276.0.7230010.3.1.4.8323329.5597.151787518"


def padchest_row(number: int, image: str, patient: str, view: str, labels: str) -> str:
    cells = [str(number), image, "0", "20140915", f"2035{number}", patient, "1930.0", "M", "POSTEROANTERIOR"]
    cells += [
        view,
        "Manual review of DICOM fields",
        "No",
        *["None"] * 16,
        "4765777",
        "sin hallazgos  .",
        "Physician",
    ]
    return (
        ",".join([*cells, '"' + labels.replace('"', '""') + '"', "[]", "\"[['x'], ['y, z']]\"", "[]", "[]"])
        + "\n"
    )


PADCHEST_ROWS = [
    ("1_a.png", "839860488694292331637988235681460987", "PA", "['normal']"),
    ("2_b.png", "313572750430997347502932654319389875966", "L", "['pulmonary fibrosis', 'chronic changes']"),
    ("3_c.png", "50783093527901818115970441560205249", "PA", "['kyphosis', ' pseudonodule', '']"),
    ("4_d.png", "93231698163474821614808891732387649", "AP_horizontal", "['exclude']"),
    ("5_e.png", "93231698163474821614808891732387649", "COSTAL", "['rib fracture']"),
    ("6_f.png", "1", "PA", "['unchanged']"),
    ("7_g.png", "1", "PA", "nan"),
    ("8_h.png", "2", "PA", "['normal', 'copd signs']"),
    ("9_i.png", "2", "AP", '["Chilaiditi\'s sign"]'),
    ("10_j.png", "3", "AP", "['normal', 'unchanged']"),
]
PADCHEST_FILE = PADCHEST + "".join(padchest_row(i, *row) for i, row in enumerate(PADCHEST_ROWS))


def read(folder: Path, text: str, **options: object) -> Labels:
    path = folder / "labels.csv"
    path.write_text(text)
    return read_labels(path, LabelOptions(**options))  # type: ignore[arg-type]


def classes(labels: Labels) -> list[str]:
    """The class of each image, or the reason for which it has none."""
    return [
        "conflict" if image.conflict else image.label or image.left_out for image in labels.images.values()
    ]


def found(folder: Path, labels: Labels, *names: str) -> dict[str, tuple[str, str | None]]:
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(b"")
    listing = list_with_labels([folder / "in"], labels)
    return {image.name: (image.label, image.patient) for image in listing.images}


N, F, U, O, S = (
    "no_finding",
    "finding",
    "uncertain",
    "only other findings",
    "neither a finding nor their absence",
)
SEVERAL = "several of the findings asked for"

CHEXPERT_RULES: dict[str, tuple[dict[str, object], list[str]]] = {
    "drop": ({}, [N, F, F, F, N, U, S, "conflict"]),
    "finding": ({"uncertain": "finding"}, [N, F, F, F, N, F, S, "conflict"]),
    "no_finding": ({"uncertain": "no_finding"}, [N, F, F, F, N, N, S, "conflict"]),
    "edema": ({"findings": ("edema",)}, [N, U, O, F, N, U, S, "conflict"]),
    "edema, ones": ({"findings": ("Edema",), "uncertain": "finding"}, [N, F, O, F, N, F, S, "conflict"]),
    "edema, zeroes": ({"findings": ("Edema",), "uncertain": "no_finding"}, [N, O, O, F, N, N, S, "conflict"]),
    "two": ({"findings": ("Edema", "Fracture")}, [N, U, "fracture", "edema", N, U, S, "conflict"]),
    "two, ones": (
        {"findings": ("Edema", "Fracture"), "uncertain": "finding"},
        [N, SEVERAL, "fracture", "edema", N, "edema", S, "conflict"],
    ),
    "devices": ({"findings": ("Support Devices",)}, [F, O, O, O, N, U, F, "conflict"]),
    "frontal": ({"view": "frontal"}, [N, F, "other views", F, N, U, S, "conflict"]),
    "lateral": ({"view": "lateral"}, ["other views"] * 2 + [F] + ["other views"] * 5),
}


@pytest.mark.parametrize("name", CHEXPERT_RULES)
def test_chexpert(tmp_path: Path, name: str) -> None:
    options, expected = CHEXPERT_RULES[name]
    labels = read(tmp_path, CHEXPERT + CHEXPERT_ROWS, **options)
    assert classes(labels) == expected
    assert labels.settings["form"] == "CheXpert" and labels.settings["uncertain"] == options.get(
        "uncertain", "drop"
    )


@pytest.mark.parametrize("below", ["", "CheXpert-v1.0-small/", "CheXpert-v1.0-small/train/"])
def test_chexpert_files_wherever_source_begins(tmp_path: Path, below: str) -> None:
    """SOURCE is the folder that holds CheXpert-v1.0-small, is it, or is its train folder."""
    labels = read(tmp_path, CHEXPERT + CHEXPERT_ROWS)
    assert labels.warnings == ["7 frontal views, and 1 lateral: --view frontal takes the frontal ones alone"]
    paths = [path.removeprefix(below) for path in labels.images]
    images = found(tmp_path, labels, *paths)
    assert (
        images[paths[0]] == (N, "patient00001")
        and images[paths[2]] == (F, "patient00002")
        and len(images) == 5
    )


def test_mimic_labels_are_of_studies(tmp_path: Path) -> None:
    labels = read(tmp_path, MIMIC + MIMIC_ROWS)
    assert classes(labels) == [N, N, F, U, F]
    names = [
        f"files/p10/p{p}/s{s}/{i}.jpg"
        for p, s, i in [
            (10000032, 50414267, "02aa804e-bde0afdd"),
            (10000032, 50414267, "174413ec"),
            (10000764, 57375967, "096052b7"),
            (10000898, 50771383, "2a280266"),
            (10000935, 1, "x"),
        ]
    ]
    images = found(tmp_path, labels, *names)
    assert images == {names[0]: (N, "10000032"), names[1]: (N, "10000032"), names[2]: (F, "10000764")}
    chosen = read(tmp_path, MIMIC + MIMIC_ROWS, findings=("Pneumonia",), uncertain="finding")
    assert classes(chosen) == [N, N, F, O, F]
    with pytest.raises(UserError, match="--view needs a column of views"):
        read(tmp_path, MIMIC + MIMIC_ROWS, view="frontal")


def test_mimic_joined_to_its_metadata_has_views(tmp_path: Path) -> None:
    head, *rows = (MIMIC + MIMIC_ROWS).splitlines()
    views = ["PA", "LATERAL", "AP", "LL", ""]
    table = [f"{head},dicom_id,ViewPosition", *(f"{row},{i}aa-bb,{views[i]}" for i, row in enumerate(rows))]
    labels = read(tmp_path, "\n".join(table), view="frontal")
    assert classes(labels) == [N, "other views", F, "other views", "other views"]
    assert found(tmp_path, labels, "files/x/0aa-bb.jpg", "2aa-bb.dcm") == {
        "2aa-bb.dcm": (F, "10000764"),
        "files/x/0aa-bb.jpg": (N, "10000032"),
    }


PADCHEST_RULES: dict[str, tuple[dict[str, object], list[str]]] = {
    "all": ({}, [N, F, F, "excluded by the file", F, S, S, "conflict", F, N]),
    "one": (
        {"findings": ("Pseudonodule",)},
        [N, O, F, "excluded by the file", O, S, S, "conflict", O, N],
    ),
    "two": (
        {"findings": ("rib fracture", "chronic changes")},
        [N, "chronic_changes", O, "excluded by the file", "rib_fracture", S, S, "conflict", O, N],
    ),
    "frontal": (
        {"view": "frontal"},
        [N, "other views", F, "excluded by the file", "other views", S, S, "conflict", F, N],
    ),
}


@pytest.mark.parametrize("name", PADCHEST_RULES)
def test_padchest(tmp_path: Path, name: str) -> None:
    options, expected = PADCHEST_RULES[name]
    labels = read(tmp_path, PADCHEST_FILE, **options)
    assert classes(labels) == expected and labels.has_patients
    assert bool(labels.warnings) == ("view" not in options)
    images = found(tmp_path, labels, "0/1_a.png", "54/3_c.png", "5_e.png", "9_i.png", "2_b.png")
    assert images["0/1_a.png"] == (N, PADCHEST_ROWS[0][1])


RSNA_ROWS = """\
0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0
00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1
00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1
00569f44-917d-4c86-a842-81832af98c30,,,,,0
00704310-78a8-4b38-8475-49f4573b2dbb,323.0,577.0,160.0,104.0,1
00704310-78a8-4b38-8475-49f4573b2dbb,,,,,0
"""


def test_rsna(tmp_path: Path) -> None:
    labels = read(tmp_path, RSNA + RSNA_ROWS)
    assert classes(labels) == [N, F, N, "conflict"] and not labels.has_patients
    assert "is not normal" in labels.warnings[0]
    files = [f"stage_2_train_images/{image}.dcm" for image in labels.images]
    assert [label for label, _ in found(tmp_path, labels, *files).values()] == [N, F, N]
    assert classes(read(tmp_path, RSNA + RSNA_ROWS, findings=("lung opacity",)))[:2] == [N, F]


def test_rsna_classes(tmp_path: Path) -> None:
    names = ["No Lung Opacity / Not Normal", "Normal", "Lung Opacity", "Lung Opacity"]
    text = "patientId,class\n" + "".join(f"{i % 3}-aa,{name}\n" for i, name in enumerate(names[:3]))
    text += "2-aa,Lung Opacity\n3-aa,Normal\n3-aa,Lung Opacity\n"
    assert classes(read(tmp_path, text)) == [F, N, F, "conflict"]
    assert classes(read(tmp_path, text, findings=("Lung Opacity",))) == [O, N, F, "conflict"]
    three = read(tmp_path, text, findings=("Lung Opacity", "No lung opacity / not normal"))
    assert classes(three) == ["no_lung_opacity_/_not_normal", N, "lung_opacity", "conflict"]


def test_siim(tmp_path: Path) -> None:
    """The second column has a space before its name, and -1 is no uncertain label."""
    rows = [
        f"{UID}1, -1",
        f"{UID}2, 387620 23 996 33 986 43",
        f"{UID}2, 5 6",
        f"{UID}3,-1",
        f"{UID}4, -1",
        f"{UID}4, 1 2",
    ]
    labels = read(tmp_path, SIIM + "\n".join(rows))
    assert classes(labels) == [N, F, N, "conflict"]
    files = [f"dicom-images-train/{image}/{image}9/{image}.dcm" for image in labels.images]
    assert [label for label, _ in found(tmp_path, labels, *files).values()] == [N, F, N]


def test_nih_views(tmp_path: Path) -> None:
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,View Position\n"
    text = head + "a.png,No Finding,0,1,PA\nb.png,Mass|Hernia,0,2,AP\nc.png,Mass,0,3,LL\n"
    assert classes(read(tmp_path, text, view="frontal")) == [N, F, "other views"]
    assert classes(read(tmp_path, text, findings=("Mass", "Hernia"))) == [N, SEVERAL, "mass"]


def test_several_findings_are_classes_of_vinbigdata(tmp_path: Path) -> None:
    text = "image_id,class_name,class_id,rad_id\n" + "".join(
        f"{image},{name},{number},R{reader}\n"
        for image, name, number in [
            ("a", "No finding", 14),
            ("b", "Mass", 1),
            ("c", "Edema", 2),
            ("d", "Rib", 3),
            ("e", "Mass", 1),
            ("e", "Edema", 2),
        ]
        for reader in range(3)
    )
    labels = read(tmp_path, text, findings=("mass", "Edema", "Mass"))
    assert classes(labels) == [N, "mass", "edema", O, SEVERAL]
    assert labels.settings["finding"] == "Mass|Edema" and set(labels.classes) == {N, "mass", "edema"}


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (
            CHEXPERT + "a.jpg,F,1,Frontal,AP,1,,,,,x,,,,,,,,\n",
            {},
            "line 2: Edema is 'x', not 1, 0, -1 or empty",
        ),
        (CHEXPERT + "a.jpg,F,1,Frontal,AP,2.0,,,,,,,,,,,,,\n", {}, "No Finding is '2.0'"),
        (CHEXPERT + ",F,1,Frontal,AP,1,,,,,,,,,,,,,\n", {}, "each row needs its Path"),
        (CHEXPERT + CHEXPERT_ROWS, {"findings": ("Edemma",)}, "the nearest are: Edema"),
        (CHEXPERT + CHEXPERT_ROWS, {"rule": "all"}, "--label-rule needs several readers"),
        (MIMIC + "p1,2,,,,,,,,,1.0,,,,,\n", {}, "'p1' is not a number of subject"),
        (MIMIC + "1,../2,,,,,,,,,1.0,,,,,\n", {}, "'../2' is not a number"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "normal"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "['a' 'b']"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "[__import__('os')]"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a/b.png", "1", "PA", "['a']"), {}, "not a file's name"),
        (PADCHEST_FILE, {"uncertain": "drop"}, "--uncertain needs labels that may be uncertain"),
        (RSNA + "a,,,,,2\n", {}, "Target '2' not 0 or 1"),
        (RSNA + RSNA_ROWS, {"view": "frontal"}, "--view needs a column"),
        ("patientId,class\na,Sick\n", {}, "none of RSNA's three"),
        (SIIM + "a, 1 2 3\n", {}, "neither -1 nor run lengths"),
        (SIIM + "a, 1e9\n", {}, "neither -1 nor run lengths"),
        (SIIM + "a,\n", {}, "each row needs its EncodedPixels"),
        ("path,label,patientId,class\na,b,c,Normal\n", {}, "fit more than one format"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path, text, **options)
    assert len(str(caught.value)) < 800


HEADS = [CHEXPERT, MIMIC, PADCHEST, RSNA, SIIM, "patientId,class\n"]


@given(st.binary(max_size=200), st.sampled_from(HEADS))
def test_any_bytes_behind_a_head_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, head: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "labels.csv"
    path.write_bytes(head.encode() + body)
    try:
        read_labels(path, LabelOptions())
    except UserError:
        pass


TABLES = [CHEXPERT + CHEXPERT_ROWS, MIMIC + MIMIC_ROWS, PADCHEST_FILE, RSNA + RSNA_ROWS, SIIM + f"{UID},-1\n"]


@given(
    st.sampled_from(TABLES),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 40)), max_size=4),
)
def test_a_damaged_table_is_read_or_refused_and_matches_no_file_outside(
    tmp_path_factory: pytest.TempPathFactory, text: str, changes: list[tuple[float, bytes, int]]
) -> None:
    """Bytes put in for others anywhere: what is still read names images of known classes only."""
    content = text.encode()
    for where, new, dropped in changes:
        at = int(where * len(content))
        content = content[:at] + new + content[at + dropped :]
    folder = tmp_path_factory.mktemp("any")
    (folder / "labels.csv").write_bytes(content)
    (folder / "in").mkdir()
    (folder / "in" / "a.png").write_bytes(b"")
    (folder / "1_a.png").write_bytes(b"")
    try:
        labels = read_labels(folder / "labels.csv", LabelOptions())
        assert {image.label for image in labels.images.values()} <= {N, F, None}
        listing = list_with_labels([folder / "in"], labels)
        assert {image.name for image in listing.images} <= {"a.png"}
    except UserError:
        pass


@given(
    st.fixed_dictionaries({name: st.sampled_from(["", "0", "1", "-1"]) for name in observations.FINDINGS}),
    st.sampled_from([(), ("Edema",), ("Edema", "Fracture")]),
)
def test_a_rule_for_uncertain_labels_is_that_of_the_labels_it_stands_for(
    cells: dict[str, str], asked: tuple[str, ...]
) -> None:
    """U-Ones and U-Zeroes are 1 and 0 in their stead; dropping never gives a class that both deny."""

    def label(said: dict[str, str], rule: str) -> str | None:
        return observations.label_of(said, None, asked, rule).label

    said = {name: cell for name, cell in cells.items() if cell}
    ones, zeroes = ({n: ("10"[i] if c == "-1" else c) for n, c in said.items()} for i in (0, 1))
    assert label(said, "finding") == label(ones, "drop")
    if "-1" not in {cell for name, cell in said.items() if name != "Support Devices"}:
        assert label(said, "no_finding") == label(zeroes, "drop")
    assert label(said, "drop") in (None, label(said, "finding"), label(said, "no_finding"))


@given(st.lists(st.text("ab'\",[] \\", max_size=6), max_size=4))
def test_a_list_of_labels_is_read_as_python_writes_it(names: list[str]) -> None:
    plain = [name for name in names if "\\" not in repr(name)]
    found = padchest._names(None, repr(plain))  # type: ignore[arg-type]
    assert found == {name.strip().lower() for name in plain} - padchest.SAYS_NOTHING


def test_views_have_many_names() -> None:
    assert {view_of(text) for text in ("PA", "AP", "Frontal", "AP_horizontal", " pa ")} == {FRONTAL}
    assert {view_of(text) for text in ("L", "LL", "LATERAL", "Lateral", "RL")} == {LATERAL}
    assert {view_of(text) for text in ("", "COSTAL", "EXCLUDE", "oblique")} == {"other"}


def test_a_build_of_chexpert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "CheXpert-v1.0-small"
    more = (
        "CheXpert-v1.0-small/train/patient00008/study1/view1_frontal.jpg,Male,7,Frontal,AP,,,,,,,,,,,,,1.0,\n"
    )
    rows = CHEXPERT_ROWS + more
    for number, row in enumerate(rows.splitlines()):
        write_png(tmp_path / row.partition(",")[0].replace(".jpg", ".png"), number)
    (tmp_path / "train.csv").write_text(CHEXPERT + rows.replace(".jpg", ".png"))
    words = [
        "build",
        str(source / "train"),
        "--labels",
        str(tmp_path / "train.csv"),
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--size", "32", "--workers", "1", "--split", "train=1", "--allow-quarantine", "1"]
    assert (
        main(
            [
                *words,
                "--view",
                "frontal",
                "--uncertain",
                "finding",
                "--finding",
                "Edema",
                "--finding",
                "Fracture",
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    assert "other views, left out: 1" in said.out and "taken without it" in said.err
    content = read_manifest(tmp_path / "out")
    assert content.classes == ["edema", "fracture", "no_finding"]
    assert content.build["labels"] == {
        "form": "CheXpert",
        "finding": "Edema|Fracture",
        "uncertain": "finding",
        "view": "frontal",
    }


def test_conflicts_are_set_aside_and_the_left_out_counted(tmp_path: Path) -> None:
    labels = read(tmp_path, CHEXPERT + CHEXPERT_ROWS)
    (tmp_path / "in").mkdir()
    for path in labels.images:
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(b"")
    listing = list_with_labels([tmp_path / "in"], labels)
    assert [entry.code for entry in listing.quarantine] == [Code.CONFLICTING_LABEL]
    assert (
        "neither a finding nor their absence, left out: 1; uncertain, left out: 1"
        in summary(labels, listing)[0]
    )
