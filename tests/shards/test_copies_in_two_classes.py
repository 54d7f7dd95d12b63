"""One picture under two labels is in neither class: listed with the other file, replaced in a draw."""

import csv
import io
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import class_folders, dicom, dicom_bytes, smooth, write_png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards import manifest
from shards.__main__ import main
from shards.copies.equal import in_two_classes
from shards.sources.listing import Source

LEVELS = (smooth(91) * 255).astype(np.uint8)


def picture(**how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(LEVELS).save(buffer, "PNG", **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def in_colour() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(LEVELS).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def in_16_bits() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(LEVELS.astype(np.uint16) * 257).save(buffer, "PNG")
    return buffer.getvalue()


def in_dicom(**elements: object) -> bytes:
    window = {"WindowCenter": 127.5, "WindowWidth": 255, "VOILUTFunction": "LINEAR_EXACT"}
    return dicom_bytes(dicom(LEVELS, 8, **window, **elements))


def other_dicom() -> bytes:
    return in_dicom(PatientID="patient-2", SOPInstanceUID="1.2.3", PatientName="Roe")


COPIES: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "the same bytes": (picture, picture),
    "another compression": (picture, lambda: picture(compress_level=1)),
    "other words in its header": (picture, lambda: picture(dpi=(300, 300))),
    "colour": (picture, in_colour),
    "16 bits": (picture, in_16_bits),
    "DICOM of another patient": (in_dicom, other_dicom),
}
"""Two files of one picture."""


def listed(out: Path) -> dict[str, tuple[str, str]]:
    rows = list(csv.reader(Path(f"{out}.quarantine.csv").read_text().splitlines()))[1:]
    return {path: (code, detail) for _, path, code, detail in rows}


def build(root: Path, *words: str) -> int:
    options = ("--out", str(root / "out"), "--size", "32", "--workers", "1", "--split", "train=1")
    return main(["build", str(root / "in"), *options, *words])


@pytest.mark.parametrize("copy", COPIES)
def test_it_is_in_neither_class(copy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path / "in", 4)
    for name, file in zip(("Finding/one.png", "No_finding/two.png"), COPIES[copy], strict=True):
        (tmp_path / "in" / name).write_bytes(file())
    assert build(tmp_path) == 1
    said = capsys.readouterr().err
    assert "2 set aside (conflicting_label 2)" in said and "--allow-quarantine 2 accepts this" in said
    found = listed(tmp_path / "out")
    assert {code for code, _ in found.values()} == {"conflicting_label"} and len(found) == 2
    assert "in class finding, but the same picture as 'No_finding/two.png'" in found["Finding/one.png"][1]
    assert sum(split.samples for split in manifest.read(tmp_path / "out").splits.values()) == 8
    assert build(tmp_path, "--allow-quarantine", "2") == 0


def test_rows_of_a_table_as_well(tmp_path: Path) -> None:
    rows = ["path,label"]
    for number in range(8):
        write_png(tmp_path / f"in/{number}.png", number % 6)
        rows.append(f"{number}.png,{'ab'[number % 2 if number != 7 else 0]}")  # 7 is 1, and 6 is 0
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert build(tmp_path, "--labels", str(tmp_path / "labels.csv")) == 1
    assert sorted(listed(tmp_path / "out")) == ["1.png", "7.png"]


def test_a_draw_takes_others_instead(tmp_path: Path) -> None:
    class_folders(tmp_path / "in", 8)
    for number, path in enumerate(sorted((tmp_path / "in/Finding").iterdir())[:4]):
        shutil.copy(path, tmp_path / f"in/No_finding/copy{number}.png")
    assert build(tmp_path, "--per-class", "4", "--allow-quarantine", "8") == 0
    splits = manifest.read(tmp_path / "out").splits
    assert [sum(split.classes[label] for split in splits.values()) for label in (0, 1)] == [4, 4]
    assert all(code == "conflicting_label" for code, _ in listed(tmp_path / "out").values())


def test_near_copies_in_two_classes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path / "in", 4)
    field = Image.fromarray((smooth(77, 200, 200) * 255).astype(np.uint8))
    field.save(tmp_path / "in/Finding/one.png")
    field.save(tmp_path / "in/No_finding/two.jpg", quality=70)
    assert build(tmp_path) == 0
    said = capsys.readouterr().err
    assert "1 of these pairs are in two classes, so look whether both labels are right: " in said
    assert "'Finding/one.png'" in said and "'No_finding/two.jpg'" in said


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), max_size=20))
def test_what_is_left_has_one_label_for_each_picture(images: list[tuple[str, int]]) -> None:
    sources = [Source(0, str(number), "", label) for number, (label, _) in enumerate(images)]
    found = in_two_classes(sources, [picture for _, picture in images])
    labels: dict[int, set[str]] = defaultdict(set)
    for label, shown in images:
        labels[shown].add(label)
    assert set(found) == {i for i, (_, shown) in enumerate(images) if len(labels[shown]) > 1}
    assert all(entry.path == str(i) for i, entry in found.items())
