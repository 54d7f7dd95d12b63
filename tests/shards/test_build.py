"""`build`: same bytes with any workers, readable by stock webdataset, no source's name, unsplit patients."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import webdataset
from helpers.xray_files import class_folders, contents, dicom, smooth, write_dicom, write_png

from shards import manifest
from shards.__main__ import main

PATTERN = ["--patient-pattern", "^([0-9]+)_"]
SMALL = ["--size", "16", "--workers", "1"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("source") / "in", patients=20, images=2)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "shards"
    assert main(["build", str(source), "--out", str(out), *PATTERN, *SMALL, "--samples-per-shard", "12"]) == 0
    return out


def test_same_bytes_with_other_workers_and_another_place(source: Path, built: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(source)
    options = ["--size", "16", "--workers", "3", "--samples-per-shard", "12", "--key-file", f"{built}.key"]
    assert main(["build", str(moved), "--out", str(tmp_path / "out"), *PATTERN, *options]) == 0
    assert contents(tmp_path / "out") == contents(built)


def test_another_key_changes_all_names_and_the_seed_the_split(
    source: Path, built: Path, tmp_path: Path
) -> None:
    arguments = ["build", str(source), *PATTERN, *SMALL, "--samples-per-shard", "12"]
    assert main([*arguments, "--out", str(tmp_path / "key")]) == 0
    assert (
        main([*arguments, "--out", str(tmp_path / "seed"), "--seed", "1", "--key-file", f"{built}.key"]) == 0
    )
    names = [
        {
            key
            for split in manifest.read(folder).splits.values()
            for shard in split.shards
            for key in shard.index.key
        }
        for folder in (built, tmp_path / "key", tmp_path / "seed")
    ]
    assert names[0] == names[2] and not names[0] & names[1]
    assert contents(built)["test-000000.tar"] != contents(tmp_path / "seed")["test-000000.tar"]


def test_stock_webdataset_reads_what_the_manifest_says(built: Path) -> None:
    content = manifest.read(built)
    assert content.classes == ["no_finding", "finding"]
    assert content.build["patients"] == "pattern"
    assert sum(split.samples for split in content.splits.values()) == 40
    for name, split in content.splits.items():
        for shard in split.shards:
            samples = list(
                webdataset.WebDataset(str(built / shard.file), shardshuffle=False, empty_check=False)
            )
            tar = (built / shard.file).read_bytes()
            assert [sample["__key__"] for sample in samples] == shard.index.key
            for row, sample in enumerate(samples):
                offset, size = shard.index.offset[row], shard.index.size[row]
                assert sample["png"] == tar[offset : offset + size]
                label = shard.index.label[row]
                assert json.loads(sample["json"]) == {
                    "label": label,
                    "class": content.classes[label],
                    "split": name,
                    "patient": shard.index.patient[row],
                    "cluster": shard.index.cluster[row],
                    "render": {
                        "source": "raster",
                        "bits": 8,
                        "orientation": 1,
                        "voi": "full scale",
                        "inverted": False,
                        "shape": [48, 48],
                        "aspect": 1.0,
                        "fit": "pad",
                        "from": [0.0, 0.0, 48.0, 48.0],
                        "to": [0, 0, content.render["size"], content.render["size"]],
                    },
                }
    assert [len(split.shards) for split in content.splits.values()] == [3, 1, 1]


def test_tar_lists_every_member(built: Path) -> None:
    for split in manifest.read(built).splits.values():
        for shard in split.shards:
            listed = subprocess.run(
                ["tar", "tvf", str(built / shard.file)], capture_output=True, text=True, check=True
            )
            names = [line.split()[-1] for line in listed.stdout.splitlines()]
            assert names == [f"{key}.{kind}" for key in shard.index.key for kind in ("png", "json")]
            assert not listed.stderr


def test_shards_hold_no_name_of_a_source(built: Path, source: Path) -> None:
    data = b"".join(contents(built).values())
    assert str(source).encode() not in data and b"_1.png" not in data and b"0003_" not in data
    assert (built.parent / "shards.key").stat().st_mode & 0o777 == 0o600


def test_dicom_patients_labels_and_copies(tmp_path: Path) -> None:
    rows = ["path,label"]
    for number in range(12):
        stored = (smooth(number) * 4000).astype(np.uint16)
        name = f"study/{number:02d}"  # no extension
        write_dicom(tmp_path / "in" / name, dicom(stored, 12, PatientID=f"Doe^{number // 2}"))
        rows.append(f"{name},{'Finding' if number % 2 else 'No finding'}")
    write_dicom(
        tmp_path / "in/copy.dcm",
        dicom(
            (smooth(3) * 4000).astype(np.uint16), 12, PatientID="Other", WindowCenter=2000, WindowWidth=3600
        ),
    )
    rows.append("copy.dcm,Finding")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    out = tmp_path / "out"
    labels = ["--labels", str(tmp_path / "labels.csv")]
    assert main(["build", str(tmp_path / "in"), "--out", str(out), *labels, *SMALL, "--bits", "16"]) == 0
    content = manifest.read(out)
    assert content.build["patients"] == "dicom" and content.build["duplicates"]["clusters"] == 1
    assert sum(split.patients for split in content.splits.values()) == 7
    assert b"Doe" not in b"".join(contents(out).values())
    assert main(["verify", str(out)]) == 0


def test_one_patient_id_for_all_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        stored = (smooth(number) * 4000).astype(np.uint16)
        write_dicom(
            tmp_path / f"in/{'ab'[number % 2]}/{number}.dcm", dicom(stored, 12, PatientID="ANONYMOUS")
        )
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *SMALL]) == 2
    said = capsys.readouterr().err
    assert "same PatientID" in said and "scan" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_patients_of_the_label_file_count_before_those_of_the_headers(tmp_path: Path) -> None:
    rows = ["path,label,patient"]
    for number in range(8):
        stored = (smooth(number) * 4000).astype(np.uint16)
        write_dicom(tmp_path / f"in/{number}.dcm", dicom(stored, 12, PatientID=f"{number}"))
        rows.append(f"{number}.dcm,{number % 2},{number // 4}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    labels = ["--labels", str(tmp_path / "labels.csv"), "--split", "train=0.5,val=0.5"]
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *labels, *SMALL]) == 0
    content = manifest.read(tmp_path / "out")
    assert content.build["patients"] == "csv"
    assert [(split.patients, split.samples) for split in content.splits.values()] == [(1, 4), (1, 4), (0, 0)]
    assert content.splits["test"].shards == []


def test_bad_files_are_listed_and_the_rest_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = class_folders(tmp_path / "in", 8)
    (source / "Finding" / "Smith_John.png").write_bytes(b"junk")
    (source / "Finding" / "empty.png").write_bytes(b"")
    out = tmp_path / "out"
    assert main(["build", str(source), "--out", str(out), *SMALL]) == 1
    assert "not_an_image 1, truncated 1" in capsys.readouterr().err
    assert main(["verify", str(out)]) == 0
    assert manifest.read(out).build["patients"] == "file"
    assert manifest.read(out).quarantine == {"total": 2, "codes": {"not_an_image": 1, "truncated": 1}}
    assert b"Smith" not in (out / "manifest.json").read_bytes()
    assert "0,Finding/Smith_John.png,not_an_image," in (tmp_path / "out.quarantine.csv").read_text()
    for allowed, code in ((2, 0), (1, 1)):
        arguments = ["--out", str(tmp_path / f"allowed{allowed}"), "--allow-quarantine", str(allowed)]
        assert main(["build", str(source), *arguments, *SMALL]) == code


def test_an_old_list_is_replaced_and_an_old_key_kept(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 4)
    (tmp_path / "out").mkdir()  # an empty folder may be there
    (tmp_path / "out.quarantine.csv").write_text("old")
    (tmp_path / "out.key").write_text("ab" * 32)
    assert main(["build", str(source), "--out", str(tmp_path / "out"), *SMALL]) == 0
    assert (tmp_path / "out.quarantine.csv").read_text() == "source,path,code,detail\n"
    assert (tmp_path / "out.key").read_text() == "ab" * 32


def test_names_that_are_not_utf_8_are_built_or_listed(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 4)
    folder = os.fsencode(source / "Finding")
    os.rename(folder + b"/0000_0.png", folder + b"/\xff\xfe.png")
    Path(os.fsdecode(folder + b"/\xfd.png")).write_bytes(b"junk")
    write_png(source / "Finding" / "a b\n.png", 77)
    out = tmp_path / "out"
    assert main(["build", str(source), "--out", str(out), *SMALL, "--allow-quarantine", "1"]) == 0
    assert sum(split.samples for split in manifest.read(out).splits.values()) == 9
    assert "\\udcfd.png,not_an_image" in (tmp_path / "out.quarantine.csv").read_text("utf-8")


def test_a_folder_of_pictures_without_class_folders_is_one_class(tmp_path: Path) -> None:
    for number in range(16):
        write_png(tmp_path / f"in/{number}.png", number)
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *SMALL]) == 0
    content = manifest.read(tmp_path / "out")
    assert content.classes == ["image"] and sum(split.samples for split in content.splits.values()) == 16


def test_pictures_beside_class_folders_have_no_label(tmp_path: Path) -> None:
    for number in range(16):
        write_png(tmp_path / f"in/{'ab'[number % 2]}/{number}.png", number)
    write_png(tmp_path / "in/17.png", 17)
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert ",17.png,no_label," in (tmp_path / "out.quarantine.csv").read_text()


def test_folders_of_patients_are_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(24):
        write_png(tmp_path / f"in/DOE^JANE {number // 2:02d}/{number}.png", number)
    words = ["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *SMALL]
    assert main(words) == 2
    assert "look like patients" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, "--many-classes"]) == 0 and len(manifest.read(tmp_path / "out").classes) == 12


def test_what_can_t_be_out_or_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = class_folders(tmp_path / "in")
    (tmp_path / "link").symlink_to(source)
    out = str(tmp_path / "out")
    for words, wanted in (
        ([str(source), "--out", "s3:bucket/shards"], "no folder of this machine"),
        ([str(source), str(tmp_path / "link"), "--out", out], "twice"),
        ([str(source / "Finding"), str(source), "--out", out], "twice"),
    ):
        assert main(["build", *words, *SMALL]) == 2
        assert wanted in capsys.readouterr().err
    assert not Path("s3:").exists() and not (tmp_path / "out").exists()
