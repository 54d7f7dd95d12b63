"""`build --per-class`: an even draw by the seed that replaces what can't be used, and decodes no more."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.build_options import build_options
from helpers.xray_files import class_folders, contents, dicom, smooth, write_dicom, write_png
from hypothesis import given
from hypothesis import strategies as st

from shards import manifest
from shards.__main__ import main
from shards.gather import gather
from shards.identity import Names
from shards.plan import draw_order
from shards.quarantine import Code, Entry
from shards.sources.listing import Listing, Source

SMALL = ["--size", "16", "--workers", "1"]


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
    """DICOMs `root/in/train/{n}.dicom`, half with a finding, root/train.csv with more; options of `build`."""
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    for number in range(images + missing):
        row = "Mass,8,{},1,2,3,4" if number % 2 else "No finding,14,{},,,,"
        rows += [f"{number:03d},{row.format(reader)}" for reader in ("R8", "R9", "R10")]
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

    def scan(workers: None, batch: list[Source], *_: object) -> list[SimpleNamespace | Entry]:
        read.extend(batch)
        return [
            SimpleNamespace(content=bytes(32), pixels=image.name)
            if usable[image]
            else Entry(0, image.name, Code.CORRUPT, "")
            for image in batch
        ]

    options = build_options(per_class=per_class, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.gather.scan", scan)
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
    errors = capsys.readouterr().err
    assert "class no_finding has only 6 images in the source folders; 7 images" in errors
    assert "--per-class can be " in errors
