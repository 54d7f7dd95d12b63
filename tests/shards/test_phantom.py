"""The phantom data set: valid DICOM in all its variants, same seed same bytes, pictures of chests."""

from __future__ import annotations

import csv
import gzip
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless

from shards.__main__ import main
from shards.errors import UserError
from shards.phantom import write_phantom
from shards.phantom.anatomy import LESION_KINDS, Anatomy, Lesion, View, draw_anatomy, draw_lesion, draw_view
from shards.phantom.dicom import Encoding, Header, chest_dataset, stored_values
from shards.phantom.image import draw_image
from shards.phantom.projection import attenuation, render_chest
from shards.phantom.shapes import grid, to_pixels
from shards.phantom.vinbigdata import boxes, write_vinbigdata

SIZE = 96
# Type 1 and 2 attributes of the CR Image IOD's mandatory modules (DICOM PS3.3 A.2.3).
REQUIRED = """
    SOPClassUID SOPInstanceUID PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID
    StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName Modality SeriesInstanceUID
    SeriesNumber BodyPartExamined ViewPosition Manufacturer InstanceNumber SamplesPerPixel
    PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelData
"""


def draw_case(seed: int) -> tuple[Anatomy, View, Lesion]:
    rng = np.random.default_rng(seed)
    anatomy, view = draw_anatomy(rng), draw_view(rng)
    return anatomy, replace(view, marker="", borders=(0, 0, 0, 0)), draw_lesion(rng, anatomy, view)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    assert write_phantom(out, patients=26, seed=3, size=SIZE) == len(list(out.glob("images/*.dcm"))) >= 40
    return out


@pytest.fixture(scope="module")
def datasets(folder: Path) -> dict[str, pydicom.Dataset]:
    return {f"images/{path.name}": pydicom.dcmread(path) for path in sorted(folder.glob("images/*.dcm"))}


def labels(folder: Path) -> dict[str, str]:
    with (folder / "labels.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == ["path", "label"]
        return {row["path"]: row["label"] for row in reader}


def test_files_are_complete_cr_images(datasets: dict[str, pydicom.Dataset]) -> None:
    for ds in datasets.values():
        assert set(REQUIRED.split()) <= set(ds.dir())
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == ComputedRadiographyImageStorage
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        assert ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid and ds.SeriesInstanceUID.is_valid
        assert ds.HighBit == ds.BitsStored - 1
        assert ds.pixel_array.shape == (SIZE, SIZE) and ds.pixel_array.max() < 2**ds.BitsStored
    uids = [uid for ds in datasets.values() for uid in (ds.SOPInstanceUID, ds.StudyInstanceUID)]
    assert len(set(uids)) == 2 * len(datasets)


def test_every_variant_occurs_in_forty_images(datasets: dict[str, pydicom.Dataset]) -> None:
    first = list(datasets.values())[:40]
    assert {ds.BitsStored for ds in first} == {12, 14}
    assert {ds.PhotometricInterpretation for ds in first} == {"MONOCHROME1", "MONOCHROME2"}
    assert {"WindowCenter" in ds for ds in first} == {True, False}
    assert {"RescaleSlope" in ds for ds in first} == {True, False}
    for ds in first:
        assert ("WindowWidth" in ds) == ("WindowCenter" in ds)
        if "WindowCenter" not in ds:
            assert np.ptp(ds.pixel_array) > 0.6 * 2**ds.BitsStored


def test_classes_are_balanced_and_patients_overlap(
    folder: Path, datasets: dict[str, pydicom.Dataset]
) -> None:
    label = labels(folder)
    assert set(label) == set(datasets)
    counts = Counter(label.values())
    assert set(counts) == {"finding", "no_finding"}
    assert abs(counts["finding"] - counts["no_finding"]) == len(label) % 2
    patients: dict[str, list[str]] = {}
    for path, ds in datasets.items():
        patients.setdefault(ds.PatientID, []).append(label[path])
    assert len(patients) == 26
    assert {len(images) for images in patients.values()} == {1, 2, 3}
    assert any(len(set(images)) == 2 for images in patients.values())


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_phantom(tmp_path / name, patients=4, seed=seed, size=64)
    a, b, c = (tree(tmp_path / name) for name in "abc")
    assert a == b
    assert not set(a.values()) & set(c.values())


def test_a_data_set_is_never_mixed_into_another(tmp_path: Path) -> None:
    write_phantom(tmp_path, patients=1, seed=0, size=32)
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="empty folder"):
        write_phantom(tmp_path, patients=1, seed=1, size=32)
    assert tree(tmp_path) == before
    for patients, seed, size in ((0, 0, 64), (1, -1, 64), (1, 0, 8), (1, 0, 10**6)):
        with pytest.raises(ValueError, match="phantom needs"):
            write_phantom(tmp_path / "new", patients, seed, size)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("bits", [12, 14])
@pytest.mark.parametrize("window", [True, False])
def test_monochrome1_is_the_inverse_of_monochrome2(bits: int, window: bool) -> None:
    film = render_chest(*draw_case(1), SIZE)
    plain, inverted = (
        stored_values(film, Encoding(bits, inverted, window, None)).astype(int) for inverted in (False, True)
    )
    total = plain + inverted
    assert set(total.ravel()) == {sum(Encoding(bits, True, window, None).span)}
    assert np.corrcoef(plain.ravel(), film.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("rescale", [None, (0.5, -200.0), (2.0, 100.0)])
def test_a_viewer_sees_what_was_drawn(rescale: tuple[float, float] | None) -> None:
    film = render_chest(*draw_case(2), SIZE)
    header = Header(patient=1, image=1, female=True, birth_year=1950, study_day=10, entropy="test")
    for inverted in (False, True):
        ds = chest_dataset(film, Encoding(12, inverted, True, rescale), header)
        shown = apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds).astype(float)
        slope, low = rescale or (1.0, 0.0)
        seen = (shown - low) / (slope * (2**12 - 1))
        assert np.abs((1 - seen if inverted else seen) - film).max() < 1e-3


@pytest.mark.parametrize("kind", LESION_KINDS)
def test_a_lesion_changes_its_place_and_no_other(kind: str) -> None:
    cases = [case for case in map(draw_case, range(60)) if case[2].kind == kind][:3]
    assert len(cases) == 3
    for anatomy, view, lesion in cases:
        with_it, without = render_chest(anatomy, view, lesion, SIZE), render_chest(anatomy, view, None, SIZE)
        x, y = grid(view, SIZE)
        near, inside = np.zeros_like(x, dtype=bool), np.zeros_like(x, dtype=bool)
        for spot in lesion.spots:
            dx, dy = np.abs(x - spot.x) - spot.rx, np.abs(y - spot.y) - spot.ry
            near |= (dx < 0.1) & (dy < 0.1)
            inside |= (dx < 0) & (dy < 0)
        change = np.abs(with_it - without)
        assert change[inside].max() > 0.05
        assert change[~near].max(initial=0) < 0.02
        beyond = attenuation(anatomy, view, lesion, SIZE) - attenuation(anatomy, view, None, SIZE)
        assert np.abs(beyond[~inside]).max(initial=0) < 1e-6


def test_the_finding_label_is_a_lesion_in_the_picture(
    folder: Path, datasets: dict[str, pydicom.Dataset]
) -> None:
    again = {}
    for path, label in labels(folder).items():
        ds = datasets[path]
        patient, image = int(ds.PatientID.removeprefix("PHANTOM-")), int(ds.StudyID)
        anatomy = draw_anatomy(np.random.default_rng([3, patient, 0]))
        view = draw_view(np.random.default_rng([3, patient, image]))
        healthy = render_chest(anatomy, view, None, SIZE)
        inverted = ds.PhotometricInterpretation == "MONOCHROME1"
        encoding = Encoding(ds.BitsStored, inverted, "WindowCenter" in ds, None)
        again[path] = np.array_equal(stored_values(healthy, encoding), ds.pixel_array)
        assert again[path] == (label == "no_finding")
    assert set(again.values()) == {True, False}


def level(film: np.ndarray, view: View, x: float, y: float, half: float = 0.06) -> float:
    """Mean brightness of a patch around an anatomical position."""
    column, row = to_pixels(np.array([[x, y]]), view, len(film))[0]
    reach = half * len(film) / 2
    patch = film[round(row - reach) : round(row + reach), round(column - reach) : round(column + reach)]
    return float(patch.mean())


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_chest_looks_like_one(seed: int) -> None:
    anatomy, view, _ = draw_case(seed)
    view = replace(view, stomach_gas=0.12)
    film = render_chest(anatomy, view, None, SIZE)
    assert film.dtype == np.float32 and film.shape == (SIZE, SIZE) and 0 <= film.min() and film.max() <= 1
    base = anatomy.dome + view.breath
    lung = max(level(film, view, side * 0.45, y) for side in (-1, 1) for y in (-0.3, 0.0))
    assert lung < level(film, view, 0.0, 0.0) - 0.1  # the mediastinum is denser than any lung
    assert lung < level(film, view, -0.35, base + 0.2) - 0.1  # and so is the liver
    assert film.min() < 0.2  # air beside the neck
    heart = base - 0.2
    assert (
        level(film, view, 0.24, heart) > level(film, view, -0.24, heart) + 0.05
    )  # its apex lies on the right
    without_gas = render_chest(anatomy, replace(view, stomach_gas=0.0), None, SIZE)
    bubble = base + anatomy.dome_step + 0.1
    assert level(film, view, 0.33, bubble, 0.03) < level(without_gas, view, 0.33, bubble, 0.03) - 0.03


def test_bones_only_add_and_show_through_the_lungs() -> None:
    anatomy, view, _ = draw_case(4)
    bare = attenuation(replace(anatomy, bone=0.0), view, None, SIZE)
    added = attenuation(anatomy, view, None, SIZE) - bare
    assert added.min() > -1e-5
    x, y = grid(view, SIZE)
    strip = added[(np.abs(np.abs(x) - 0.45) < 0.01) & (np.abs(y) < 0.3)]
    assert strip.max() > 0.2 and strip.min() < 0.02  # ribs, and gaps between them


def test_a_patient_keeps_the_anatomy_over_the_images() -> None:
    one, other = draw_case(7)[0], draw_case(8)[0]
    view = draw_case(9)[1]
    film = render_chest(one, view, None, SIZE)
    again = render_chest(one, replace(view, noise_seed=view.noise_seed + 1), None, SIZE)
    stranger = render_chest(other, view, None, SIZE)
    assert 0 < np.abs(again - film).mean() < 0.2 * np.abs(stranger - film).mean()


@pytest.mark.parametrize("dome", [0.25, 0.58])
@pytest.mark.parametrize("breath", [-0.1, 0.14])
@pytest.mark.parametrize("scale", [1.0, 1.45])
def test_the_widest_and_narrowest_bodies_are_drawn(dome: float, breath: float, scale: float) -> None:
    anatomy, view, lesion = draw_case(3)
    lesion = replace(lesion, kind="enlarged-heart", heart_scale=scale)
    for heart in (0.28, 0.325):
        film = render_chest(
            replace(anatomy, dome=dome, heart=heart), replace(view, breath=breath), lesion, 64
        )
        assert np.isfinite(film).all()


def test_importing_the_package_loads_neither_numpy_nor_pydicom() -> None:
    code = "import sys, shards.phantom; sys.exit(bool({'numpy', 'pydicom', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def vinbigdata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vinbigdata")
    assert write_vinbigdata(out, images=30, seed=4, size=64) == 30
    return out


def rows_by_image(path: Path) -> dict[str, list[dict[str, str]]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        assert (
            ",".join(reader.fieldnames or []) == "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
        )
        images: dict[str, list[dict[str, str]]] = {}
        for row in reader:
            images.setdefault(row["image_id"], []).append(row)
    return images


def test_three_readers_mark_each_image(vinbigdata: Path) -> None:
    images = rows_by_image(vinbigdata / "train.csv")
    assert {path.name for path in vinbigdata.rglob("*.dicom")} == {f"{name}.dicom" for name in images}
    nothing = 0
    for name, rows in images.items():
        assert re.fullmatch("[0-9a-f]{32}", name)
        assert len({row["rad_id"] for row in rows}) == 3
        none = [row for row in rows if row["class_id"] == "14"]
        nothing += bool(none)
        assert none in ([], rows)
        for row in rows:
            box = [row[side] for side in ("x_min", "y_min", "x_max", "y_max")]
            assert (row["class_name"] == "No finding") == (row["class_id"] == "14") == (box == [""] * 4)
            if row not in none:
                left, top, right, bottom = map(float, box)
                assert 0 <= left < right <= 64 and 0 <= top < bottom <= 64
    assert nothing == 15
    assert len({row["class_name"] for rows in images.values() for row in rows}) > 4


def test_a_box_holds_its_lesion() -> None:
    """Where the image differs from the same one without a lesion is where the readers' boxes are."""
    for number in range(1, 9):
        drawn = draw_image(number, 1, 4, finding=True)
        healthy = render_chest(drawn.anatomy, drawn.view, None, 128)
        change = np.abs(render_chest(drawn.anatomy, drawn.view, drawn.lesion, 128) - healthy)
        change[:8], change[-8:], change[:, :8], change[:, -8:] = 0, 0, 0, 0  # collimation
        marked = np.zeros((128, 128), bool)
        for box in boxes(np.random.default_rng(number), drawn.lesion, drawn.view, 128):
            left, top, right, bottom = box.astype(int)
            marked[top:bottom, left:right] = True
        assert change[marked].sum() > 0.8 * change.sum() > 0


def test_a_third_is_compressed_and_all_hold_what_was_drawn(vinbigdata: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in sorted(vinbigdata.glob("train/*.dicom"))]
    compressed = [ds for ds in datasets if ds.file_meta.TransferSyntaxUID == JPEG2000Lossless]
    assert 4 <= len(compressed) <= 16
    for ds in datasets:
        assert ds.file_meta.TransferSyntaxUID in (JPEG2000Lossless, ExplicitVRLittleEndian)
        patient, image = int(ds.PatientID.removeprefix("PHANTOM-")), int(ds.StudyID)
        shown = []
        for finding in (False, True):
            drawn = draw_image(patient, image, 4, finding)
            film = render_chest(drawn.anatomy, drawn.view, drawn.lesion, 64)
            shown.append(np.array_equal(ds.pixel_array, stored_values(film, drawn.encoding)))
        assert shown.count(True) == 1
    assert len({ds.PatientID for ds in datasets}) < len(datasets)


def test_ids_and_classes_can_be_borrowed(vinbigdata: Path, tmp_path: Path) -> None:
    text = (vinbigdata / "train.csv").read_bytes()
    (tmp_path / "ids.csv.gz").write_bytes(gzip.compress(text))
    assert write_vinbigdata(tmp_path / "out", 12, 9, 32, tmp_path / "ids.csv.gz") == 12
    lent, borrowed = (rows_by_image(folder / "train.csv") for folder in (vinbigdata, tmp_path / "out"))
    assert set(borrowed) == set(list(lent)[:12])
    for name, rows in borrowed.items():
        assert (rows[0]["class_id"] == "14") == (lent[name][0]["class_id"] == "14")


def test_same_seed_same_bytes_in_vinbigdatas_layout(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_vinbigdata(tmp_path / name, 6, seed, 32)
    a, b, c = (tree(tmp_path / name) for name in "abc")
    assert a == b and not set(a) & set(c) - {"train.csv"}
    with pytest.raises(UserError, match="empty folder"):
        write_vinbigdata(tmp_path / "a", 6, 5, 32)
    assert tree(tmp_path / "a") == a


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,finding\n", "not in VinBigData's format"),
        ("image_id,class_name,class_id,rad_id\na,No finding,14,R1\n", "names 1 images"),
        ("image_id,class_name,class_id,rad_id\n..,No finding,14,R1\nb,No finding,14,R1\n", "letters, digits"),
        ("nothing", "fit no form"),
    ],
)
def test_ids_that_can_not_be_borrowed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        write_vinbigdata(tmp_path / "out", 2, 0, 32, tmp_path / "ids.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["--images", "3"], ["--image-ids", "x.csv"], ["--layout", "vinbigdata", "--patients", "3"]]
)
def test_options_of_the_other_layout_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert main(["phantom", "--out", str(tmp_path / "out"), *options]) == 2
    assert "--layout" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
