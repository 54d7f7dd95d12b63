"""Folder trees of public sets: splits are no classes, masks no X-rays, file names tell patients."""

from pathlib import Path

import pytest
from helpers.xray_files import write_png
from hypothesis import given
from hypothesis import strategies as st

from shards.__main__ import main
from shards.manifest import read
from shards.quarantine import Code
from shards.sources.listing import Listing, list_class_folders
from shards.sources.trees import SPLIT_FOLDERS, read_tree

KERMANY = [
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/NORMAL2-IM-0427-0001.jpeg",
    "train/NORMAL/IM-0656-0001-0002.jpeg",
    "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "train/PNEUMONIA/person1_bacteria_2.jpeg",
    "train/PNEUMONIA/person1000_virus_1681.jpeg",
    "test/NORMAL/IM-0115-0002.jpeg",
    "test/PNEUMONIA/person1_virus_6.jpeg",
    "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
]


def listed(folder: Path, *names: str) -> Listing:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return list_class_folders([folder])


def labels(listing: Listing) -> dict[str, str]:
    return {image.name: image.label for image in listing.images}


@pytest.mark.parametrize("above", ["", "chest_xray/", "archive/chest_xray/"])
def test_kermany(tmp_path: Path, above: str) -> None:
    listing = listed(tmp_path, *(above + name for name in KERMANY))
    assert listing.classes() == ["normal", "pneumonia"] and listing.has_patients
    assert labels(listing) == {above + name: name.split("/")[1].lower() for name in KERMANY}
    patients = {image.name.rpartition("/")[2]: image.patient for image in listing.images}
    assert patients["person1_virus_6.jpeg"] == patients["person1_bacteria_2.jpeg"] == "person1"
    assert patients["IM-0115-0001.jpeg"] == patients["IM-0115-0002.jpeg"] == "IM-0115"
    assert patients["NORMAL2-IM-0427-0001.jpeg"] == "NORMAL2-IM-0427" and len(set(patients.values())) == 7
    assert "--split divides by patient" in listing.notes[0] and "Kermany" in listing.notes[1]


COVID = ["COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"]
TREES: dict[str, tuple[list[str], dict[str, str]]] = {
    "covid": (
        [f"{c}/{part}/{c}-1.png" for c in COVID for part in ("images", "masks")],
        {f"{c}/images/{c}-1.png": c.lower().replace(" ", "_") for c in COVID},
    ),
    "covid, a folder above": (
        [f"COVID-19_Radiography_Dataset/{c}/{part}/{c}-1.png" for c in COVID for part in ("images", "masks")],
        {f"COVID-19_Radiography_Dataset/{c}/images/{c}-1.png": c.lower().replace(" ", "_") for c in COVID},
    ),
    "covid-qu-ex": (
        [
            f"Seg/{split}/{c}/{part}/{c}_1.png"
            for split in ("Train", "Val", "Test")
            for c in ("COVID-19", "Non-COVID")
            for part in ("images", "lung masks", "infection masks")
        ],
        {
            f"Seg/{split}/{c}/images/{c}_1.png": c.lower().replace("-", "_")
            for split in ("Train", "Val", "Test")
            for c in ("COVID-19", "Non-COVID")
        },
    ),
    "splits": (["train/a/1.png", "test/b/2.png"], {"train/a/1.png": "a", "test/b/2.png": "b"}),
    "one split": (["train/a/1.png", "train/b/2.png"], {"train/a/1.png": "a", "train/b/2.png": "b"}),
    "splits, deep": (
        ["Training/a/x/1.png", "Testing/b/2.png"],
        {"Training/a/x/1.png": "a", "Testing/b/2.png": "b"},
    ),
    "flat splits": (["train/1.png", "valid/2.png"], {"train/1.png": "image", "valid/2.png": "image"}),
    "classes": (["a/1.png", "b/x/2.png"], {"a/1.png": "a", "b/x/2.png": "b"}),
    "splits below classes": (["a/train/1.png", "b/test/2.png"], {"a/train/1.png": "a", "b/test/2.png": "b"}),
    "splits below one class": (
        ["a/train/1.png", "a/test/2.png"],
        {"a/train/1.png": "a", "a/test/2.png": "a"},
    ),
    "one class, deep": (["a/b/c/1.png", "a/b/d/2.png"], {"a/b/c/1.png": "a", "a/b/d/2.png": "a"}),
    "a class called test": (["test/1.png", "normal/2.png"], {"test/1.png": "test", "normal/2.png": "normal"}),
    "images alone": (["a/images/1.png", "b/images/2.png"], {"a/images/1.png": "a", "b/images/2.png": "b"}),
    "masks as a class": (["masks/1.png", "images/2.png"], {"masks/1.png": "masks", "images/2.png": "images"}),
}


@pytest.mark.parametrize("name", TREES)
def test_trees(tmp_path: Path, name: str) -> None:
    names, expected = TREES[name]
    listing = listed(tmp_path, *names)
    assert labels(listing) == expected and not listing.quarantine and not listing.has_patients
    assert listing.other_files == len(names) - len(expected)


def test_what_lies_beside_the_classes_has_no_label(tmp_path: Path) -> None:
    listing = listed(tmp_path, "train/a/1.png", "test/b/2.png", "train/stray.png", "top.png")
    assert labels(listing) == {"train/a/1.png": "a", "test/b/2.png": "b"}
    assert {(entry.path, entry.code) for entry in listing.quarantine} == {
        ("train/stray.png", Code.NO_LABEL),
        ("top.png", Code.NO_LABEL),
    }


FOLDERS = st.sampled_from([*sorted(SPLIT_FOLDERS)[:3], "images", "masks", "a", "b"])


@given(st.lists(st.lists(FOLDERS, min_size=0, max_size=4), max_size=6))
def test_every_file_below_a_folder_has_a_meaning_or_the_tree_is_none(paths: list[list[str]]) -> None:
    names = ["/".join([*folders, f"{number}.png"]) for number, folders in enumerate(paths)]
    places, notes = read_tree(names, "image")
    assert bool(places) == bool(notes)
    assert not places or set(places) == {name for name in names if "/" in name}
    for name, place in places.items():
        assert place.label in (None, "", "image", *name.split("/")[:-1])


def test_a_build_of_kermany(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(KERMANY):
        write_png((tmp_path / "in" / name).with_suffix(".png"), number)
    words = ["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--size", "32", "--workers", "1"]
    assert main([*words, "--split", "train=0.6,val=0.2,test=0.2"]) == 0
    said = capsys.readouterr()
    assert "no classes: taken as one set" in said.err and "patients: 7, by the names of the files" in said.out
    assert read(tmp_path / "out").build["patients"] == "name"
