"""`append`: patients and copies stay in their splits, shards that are there keep their bytes."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset
from helpers.xray_files import batch, contents, dicom, smooth, write_dicom, write_png
from PIL import Image

from shards import manifest
from shards.__main__ import main
from shards.appending import pending
from shards.identity import load_key

PATTERN = ["--patient-pattern", "^([0-9]+)_"]
SPLIT = ["--split", "train=0.6,val=0.2,test=0.2", "--size", "32", "--samples-per-shard", "8"]


def build(tmp_path: Path, patients: int = 24) -> Path:
    source, out = batch(tmp_path / "first", range(patients), 0), tmp_path / "set"
    assert main(["build", str(source), "--out", str(out), *PATTERN, *SPLIT, "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def out(built: Path, tmp_path: Path) -> Path:
    """A copy of the set, with its key beside it."""
    shutil.copytree(built, tmp_path / "set")
    shutil.copy(f"{built}.key", tmp_path / "set.key")
    return tmp_path / "set"


def append(out: Path, source: Path, *options: str) -> int:
    return main(["append", str(out), str(source), *PATTERN, "--workers", "1", *options])


def splits_of(out: Path, column: str) -> dict[str, set[str]]:
    """In which splits each patient (or cluster) is."""
    found: dict[str, set[str]] = {}
    for name, split in manifest.read(out).splits.items():
        for shard in split.shards:
            for value in getattr(shard.index, column):
                found.setdefault(value, set()).add(name)
    return found


def split_of(out: Path, patient: int) -> str:
    """The split of a patient of the first build, found by the key file."""
    (split,) = splits_of(out, "patient")[
        load_key(Path(f"{out}.key")).name("patient", f"{patient:04d}".encode())
    ]
    return split


def patient_in(out: Path, split: str) -> int:
    return next(patient for patient in range(24) if split_of(out, patient) == split)


def of_first(out: Path, built: Path, patient: int) -> Path:
    return built.parent / f"first/{('Finding', 'No_finding')[patient % 2]}/{patient:04d}_0.png"


def test_three_appends_keep_patients_together_and_old_bytes(out: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        before, patients = contents(out), splits_of(out, "patient")
        source = batch(tmp_path / f"more{number}", range(8 * number, 24 + 8 * number), number)
        assert append(out, source) == 0
        assert main(["verify", str(out)]) == 0
        after = contents(out)
        assert all(after[name] == before[name] for name in before if name.endswith(".tar"))
        for column in ("patient", "cluster"):
            assert all(len(found) == 1 for found in splits_of(out, column).values())
        assert patients.items() <= splits_of(out, "patient").items()
    assert not Path(f"{out}.work").exists()
    content = manifest.read(out)
    assert [said["images"] for said in content.build["appends"]] == [24] * 3
    assert sum(split.patients for split in content.splits.values()) == 48
    share = {name: split.samples / 96 for name, split in content.splits.items()}
    assert share == pytest.approx({"train": 0.6, "val": 0.2, "test": 0.2}, abs=0.03)
    read = Counter(
        json.loads(sample["json"])["split"]
        for split in content.splits.values()
        for shard in split.shards
        for sample in webdataset.WebDataset(str(out / shard.file), shardshuffle=False)
    )
    assert read == {name: split.samples for name, split in content.splits.items()}


def test_same_bytes_with_other_workers_and_after_each_stop(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each step by which the new shards come in: the old set or the new one, all the while."""
    source = batch(tmp_path / "more", range(20, 44), 1)
    shutil.copytree(out, tmp_path / "other/set")
    shutil.copy(f"{out}.key", tmp_path / "other/set.key")
    assert append(tmp_path / "other/set", source, "--workers", "3") == 0
    before = contents(out)
    for left in (0, 1, 5):  # that many files were moved; the manifest is the fourth
        steps = iter(range(left))

        def stepped(old: Path, new: Path, steps: Iterator[int] = steps) -> None:
            if next(steps, None) is None:
                raise KeyboardInterrupt
            os.rename(old, new)

        with monkeypatch.context() as patch:
            patch.setattr(pending, "rename", stepped)
            assert append(out, source) == 130
        assert manifest.read(out).sha256 == json.loads(before["manifest.json"])["sha256"]
        assert main(["verify", str(out)]) == 0
    assert len(contents(out)) > len(before)  # shards that wait for their manifest
    assert append(out, source) == 0 and main(["verify", str(out)]) == 0
    assert contents(out) == contents(tmp_path / "other/set")
    assert not Path(f"{out}.work").exists()


def test_a_copy_goes_where_the_picture_is(
    out: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patients = [patient_in(out, split) for split in ("train", "val", "test")]
    for number, patient in enumerate(patients):
        folder = tmp_path / "more" / ("Finding", "No_finding")[patient % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.open(of_first(out, built, patient))
        picture.resize((64, 64)).save(folder / f"9{number:03d}_0.png")  # of a new patient
        shutil.copy(of_first(out, built, patient), folder)
    write_png(tmp_path / "more/Finding/0000_0.png", 777)  # another picture under a name of the set
    assert append(out, tmp_path / "more") == 0
    said = capsys.readouterr().err
    known = 3 - (0 in patients)
    assert f"{known} images are in the set already" in said
    assert "1 images have the file name of another picture in the set" in said
    assert "3 images are near-duplicates of images in the set" in said
    names, after = load_key(Path(f"{out}.key")), splits_of(out, "patient")
    for number, split in enumerate(("train", "val", "test")):
        assert after[names.name("patient", f"9{number:03d}".encode())] == {split}
    content = manifest.read(out)
    assert content.build["appends"][0]["images"] == 4
    assert content.build["duplicates"]["clusters"] == 3
    assert main(["verify", str(out)]) == 0
    whole = contents(out)
    assert append(out, tmp_path / "more") == 0 and contents(out) == whole
    assert "nothing to append" in capsys.readouterr().out


def test_an_image_of_two_splits_is_set_aside(out: Path, built: Path, tmp_path: Path) -> None:
    train, test = (patient_in(out, split) for split in ("train", "test"))
    batch(tmp_path / "more", range(100, 102), 0)
    picture = Image.open(of_first(out, built, test))
    picture.resize((64, 64)).save(tmp_path / f"more/Finding/{train:04d}_9.png")
    assert append(out, tmp_path / "more") == 1
    assert "two_splits" in Path(f"{out}.append.quarantine.csv").read_text()
    assert manifest.read(out).quarantine["codes"] == {"two_splits": 1}
    whole = contents(out)
    assert sum(split.samples for split in manifest.read(out).splits.values()) == 26
    assert main(["verify", str(out)]) == 0
    assert append(out, tmp_path / "more", "--allow-quarantine", "1") == 0
    assert contents(out) == whole and not Path(f"{out}.work").exists()


def test_a_picture_that_the_set_has_in_another_class_is_set_aside(
    out: Path, built: Path, tmp_path: Path
) -> None:
    whole = contents(out)
    for patient in (0, 1):
        other = tmp_path / "more" / ("No_finding", "Finding")[patient]
        other.mkdir(parents=True, exist_ok=True)
        shutil.copy(of_first(out, built, patient), other / f"{patient:04d}_7.png")
    assert append(out, tmp_path / "more") == 1
    listed = Path(f"{out}.append.quarantine.csv").read_text()
    assert listed.count("conflicting_label") == 2 and "the same picture is in the set as finding" in listed
    assert contents(out) == whole


def test_what_would_not_be_known_again_is_refused(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, whole = batch(tmp_path / "more", range(30, 32), 1), contents(out)
    write_png(tmp_path / "other/Effusion/0001_9.png", 5)
    (tmp_path / "another.key").write_text("ab" * 32)
    cases = [
        ([str(source), "--key-file", str(tmp_path / "another.key")], "another key than that of"),
        ([str(source), "--key-file", str(tmp_path / "none.key")], "is not there"),
        ([str(tmp_path / "other")], "class effusion is none of those"),
        ([str(source)], "the set knows patients by --patient-pattern, these images"),
    ]
    for number, (words, reason) in enumerate(cases):
        pattern = [] if number == 3 else PATTERN
        assert main(["append", str(out), *words, *pattern, "--workers", "1"]) == 2
        assert reason in capsys.readouterr().err
    assert contents(out) == whole
    (out / "val-000009.tar").write_bytes(b"")
    assert append(out, source) == 2
    assert "val-000009.tar is not in the manifest" in capsys.readouterr().err


def test_one_class_and_one_patient_can_be_appended(out: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "more/Finding/0500_0.png", 500)
    assert append(out, tmp_path / "more") == 0
    assert main(["verify", str(out)]) == 0


@pytest.mark.parametrize("views", [1, 2, 3])
def test_a_study_without_patient_stays_in_one_split_whenever_its_images_come(
    tmp_path: Path, views: int
) -> None:
    """PatientID is blank; some studies come whole, of others a view in each append."""
    out = tmp_path / "set"
    options = [*SPLIT, "--workers", "1"]
    for turn in range(3):
        source = tmp_path / f"in{turn}"
        for number in range(24):
            for view in range(views if turn == 0 and number % 2 else 1):
                seed = 1000 * turn + 10 * number + view
                header = {"PatientID": "", "StudyInstanceUID": f"1.2.3.{number}"}
                stored = (smooth(seed) * 4000).astype("u2")
                write_dicom(source / f"{'ab'[number % 2]}/{seed}.dcm", dicom(stored, 12, **header))
        command = ["append", str(out), str(source), "--workers", "1"]
        assert main(command if turn else ["build", str(source), "--out", str(out), *options]) == 0
    names = load_key(Path(f"{out}.key"))
    found = splits_of(out, "patient")
    assert set(found) == {names.name("patient", f"study 1.2.3.{number}".encode()) for number in range(24)}
    assert all(len(splits) == 1 for splits in found.values())
