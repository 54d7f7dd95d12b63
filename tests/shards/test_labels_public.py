"""Label files of public sets, each a small table in its own form: classes, patients, views, and faults."""

from pathlib import Path

import pytest
from helpers.public_tables import (
    CHEXPERT,
    CHEXPERT_ROWS,
    MIMIC,
    MIMIC_ROWS,
    PADCHEST_FILE,
    PADCHEST_ROWS,
    RSNA,
    RSNA_ROWS,
    SIIM,
    UID,
    F,
    N,
    O,
    S,
    U,
    classes,
    found,
    read,
)
from helpers.xray_files import write_png

from shards.__main__ import main
from shards.errors import UserError
from shards.labels.matching import list_with_labels, summary
from shards.labels.views import FRONTAL, LATERAL, view_of
from shards.manifest import read as read_manifest
from shards.quarantine import Code

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
