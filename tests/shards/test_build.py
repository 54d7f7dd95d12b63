"""`build`: same bytes with any workers, readable by stock webdataset, nothing half-written."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from xray_files import class_folders, dicom, smooth, write_dicom, write_png

from shards import manifest
from shards.__main__ import main
from shards.build import gather
from shards.identity import Names
from shards.plan import draw_order
from shards.quarantine import Code, Entry
from shards.sources import Listing, Source

PATTERN = ["--patient-pattern", "^([0-9]+)_"]
SMALL = ["--size", "16", "--workers", "1"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
                }
    assert [len(split.shards) for split in content.splits.values()] == [3, 1, 1]


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
    assert "same PatientID" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.key", "out.quarantine.csv"]


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


def test_per_class_draws_evenly_and_replaces_what_is_unusable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = class_folders(tmp_path / "in", 10)
    arguments = ["build", str(source), *SMALL, "--key-file", str(tmp_path / "key"), "--allow-quarantine", "9"]
    assert main([*arguments, "--out", str(tmp_path / "all"), "--per-class", "6"]) == 0
    drawn = manifest.read(tmp_path / "all").splits
    assert [sum(split.classes[label] for split in drawn.values()) for label in (0, 1)] == [6, 6]
    for path in sorted((source / "Finding").iterdir())[:4]:
        path.write_bytes(b"broken")
    assert main([*arguments, "--out", str(tmp_path / "some"), "--per-class", "6"]) == 0
    again = manifest.read(tmp_path / "some").splits
    assert [sum(split.classes[label] for split in again.values()) for label in (0, 1)] == [6, 6]
    keys = [
        {key for s in d.values() for shard in s.shards for key in shard.index.key} for d in (drawn, again)
    ]
    assert 6 <= len(keys[0] & keys[1]) < 12  # what could be kept was kept
    capsys.readouterr()
    assert main([*arguments, "--out", str(tmp_path / "few"), "--per-class", "7"]) == 2
    assert "class finding has only 6 usable images" in capsys.readouterr().err
    assert not (tmp_path / "few").exists()


def vinbigdata(root: Path, images: int, missing: int = 0, patients: bool = True) -> list[str]:
    """DICOMs `root/in/train/{n}.dicom`, every other with a finding, and root/train.csv that names more; arguments of `build`."""
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for number in range(images + missing):
        said = "Mass,8,{},1,2,3,4" if number % 2 else "No finding,14,{},,,,"
        rows += [f"{number:03d},{said.format(reader)}" for reader in ("R8", "R9", "R10")]
    for number in range(images):
        stored = (smooth(number) * 4000).astype(np.uint16)
        owner = f"Doe^{number // 2}" if patients else ""
        write_dicom(root / f"in/train/{number:03d}.dicom", dicom(stored, 12, PatientID=owner))
    (root / "train.csv").write_text("\n".join(rows))
    return ["build", str(root / "in"), "--labels", str(root / "train.csv"), "--key-file", str(root / "key")]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(0, 2),
    st.randoms(use_true_random=False),
)
def test_the_draw_is_the_first_usable_ones_in_draw_order(
    files: list[tuple[bool, bool]], per_class: int, seed: int, rng: random.Random
) -> None:
    """Each file: whether it has a finding, and whether it is usable."""
    names = Names(bytes(32))
    images = [
        Source(0, f"{n}.dicom", "", "finding" if found else "no_finding")
        for n, (found, _) in enumerate(files)
    ]
    usable = {image: good for image, (_, good) in zip(images, files, strict=True)}
    read: list[Source] = []

    def scan(workers: None, batch: list[Source], *_: object) -> list[str | Entry]:
        read.extend(batch)
        return ["" if usable[image] else Entry(0, image.name, Code.CORRUPT, "") for image in batch]

    options = SimpleNamespace(per_class=per_class, seed=seed, size=16, bits=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.build.scan", scan)
        listing = Listing(rng.sample(images, len(images)))
        drawn, refused = gather(None, listing, names, Path(), options)  # type: ignore[arg-type]
    by_identity = {image.identity: image for image in images}
    expected, needless = set(), set()
    for label in ("finding", "no_finding"):
        drawing = (by_identity[identity] for identity in draw_order(by_identity, seed))
        order = [image for image in drawing if image.label == label]
        good = [image for image in order if usable[image]]
        expected |= set(good[:per_class])
        needless |= set(order[order.index(good[per_class - 1]) + 1 :]) if len(good) >= per_class else set()
    assert {image.source for image in drawn} == expected and len(drawn) == len(expected)
    assert {entry.path for entry in refused} == {image.name for image in read if not usable[image]}
    assert len(read) == len(set(read)) and not needless & set(read)


def keys_of(folder: Path) -> set[str]:
    return {
        key
        for split in manifest.read(folder).splits.values()
        for shard in split.shards
        for key in shard.index.key
    }


def test_vinbigdata_draws_by_seed_and_replaces_the_unusable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = vinbigdata(tmp_path, 30)
    assert main([*build, "--out", str(tmp_path / "all"), *SMALL, "--per-class", "6"]) == 0
    output = capsys.readouterr()
    assert "30 images: 15 no_finding, 15 finding" in output.out and "by DICOM's PatientID" in output.out
    assert "scan: 12/12 images" in output.err  # no more than are drawn
    drawn = keys_of(tmp_path / "all")
    names = Names(bytes.fromhex((tmp_path / "key").read_text()))
    files = sorted((tmp_path / "in" / "train").iterdir())
    broken = [path for path in files if names.name("sample", b"0", f"train/{path.name}".encode()) in drawn][
        ::3
    ]
    for path in broken:
        path.write_bytes(b"junk")
    again = [*build, "--per-class", "6", "--allow-quarantine", "9", "--size", "16"]
    for name, options in {"one": ["--workers", "1"], "three": ["--workers", "3"]}.items():
        assert main([*again, "--out", str(tmp_path / name), *options]) == 0
        splits = manifest.read(tmp_path / name).splits.values()
        assert [sum(split.classes[label] for split in splits) for label in (0, 1)] == [6, 6]
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert len(keys_of(tmp_path / "one") & drawn) == len(drawn) - len(broken)  # what could be kept was kept
    assert main([*again, "--out", str(tmp_path / "seed"), "--workers", "1", "--seed", "1"]) == 0
    assert keys_of(tmp_path / "seed") != keys_of(tmp_path / "one")
    capsys.readouterr()
    assert main([*again, "--out", str(tmp_path / "few"), "--workers", "1", "--per-class", "15"]) == 2
    assert "usable images, 15 needed" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "one")]) == 0


def test_a_part_of_the_data_set_is_built_when_the_missing_are_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = [*vinbigdata(tmp_path, 12, missing=7, patients=False), *SMALL]
    write_png(tmp_path / "in" / "zoo.png", 1)
    cases = [
        ([], 1),
        (["--allow-missing", "all"], 1),
        (["--allow-missing", "7", "--allow-quarantine", "1"], 0),
        (["--allow-missing", "6", "--allow-quarantine", "1"], 1),
        (["--allow-missing", "all", "--allow-quarantine", "1"], 0),
        (["--allow-quarantine", "8"], 0),
    ]
    for number, (options, code) in enumerate(cases):
        assert main([*build, "--out", str(tmp_path / f"out{number}"), *options]) == code
        output = capsys.readouterr()
        assert "missing: 7; files without a row: 1" in output.out
        assert "patients: 12, not known, each image is taken as one" in output.out
        assert "1 set aside (no_label 1)" in output.err and "7 named by the label file" in output.err
        assert ("accepts this" in output.err) == (code == 1)
    rows = (tmp_path / "out0.quarantine.csv").read_text().splitlines()
    assert rows[1].startswith("0,zoo.png,no_label") and "missing_file" in rows[2] and len(rows) == 9
    content = manifest.read(tmp_path / "out0")
    assert content.quarantine["codes"] == {"missing_file": 7, "no_label": 1}
    assert content.build["labels"] == {"form": "VinBigData", "rule": "any"}
    assert main([*build, "--out", str(tmp_path / "few"), "--per-class", "9"]) == 2
    told = capsys.readouterr().err
    assert "class no_finding has only 6 images in the source folders; 7 images" in told
    assert "--per-class can be " in told


def run_build(source: Path, out: Path, *options: str, **popen: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shards", "build", str(source), "--out", str(out), *options]
    popen |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **popen)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the write fails in the worker in the same way."""
    source = class_folders(tmp_path / "in", 10)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    process = run_build(source, tmp_path / "out", *SMALL, preexec_fn=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "File too large" in errors and "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in",
        "out.key",
        "out.quarantine.csv",
    ] or sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.key"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_stop_leaves_nothing_half_written(tmp_path: Path, number: int, code: int) -> None:
    source = class_folders(tmp_path / "in", 150, 2)
    process = run_build(source, tmp_path / "out", "--size", "1024", "--workers", "1", start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".out.tmp-*/spool/*.png-spool")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "nothing half-written is left" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.key"]


def test_a_dead_worker_is_reported_with_the_files_it_may_have_had(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 150, 2)
    process = run_build(source, tmp_path / "out", "--size", "1024", "--workers", "1")
    deadline = time.monotonic() + 120
    while not (spools := list(tmp_path.glob(".out.tmp-*/spool/*.png-spool"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(int(spools[0].name.split(".")[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in errors
    assert "a worker process died" in errors and errors.count(".png") == 1
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 150, 2)
    process = run_build(source, tmp_path / "out", "--size", "1024", "--workers", "1")
    deadline = time.monotonic() + 120
    while not (spools := list(tmp_path.glob(".out.tmp-*/spool/*.png-spool"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = int(spools[0].name.split(".")[0])
    process.kill()
    process.communicate(timeout=120)
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()
    assert not (tmp_path / "out").exists()


def test_no_worker_loads_torch(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 3)
    check = (
        "import sys; from shards.__main__ import main\n"
        "if __name__ == '__main__':\n"
        f"    main({['build', str(source), '--out', str(tmp_path / 'out'), *SMALL]!r})\n"
        "    assert 'torch' not in sys.modules and 'pydicom' not in sys.modules\n"
    )
    (tmp_path / "run.py").write_text(check)
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}  # inherited by the workers
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "webdataset.writer" in imported and "torch.nn" not in imported, done.stderr[-3000:]


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
