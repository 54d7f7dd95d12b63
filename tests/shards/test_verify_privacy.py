"""`verify --privacy` finds identifiers of the source wherever they were planted, none in a clean build."""

import io
import json
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import dicom, smooth, write_dicom, write_png

from shards import manifest
from shards.__main__ import main

SURNAMES = ("Okonkwo", "Lindqvist", "Marchetti", "Abernathy", "Yamaguchi")


def identifying(number: int) -> dict[str, str]:
    """Twenty attributes that name a person, or let one be found."""
    day = f"{1 + number % 28:02d}"
    return {
        "PatientName": f"{SURNAMES[number % 5]}^Quentin{number}",
        "PatientID": f"HX{770000 + number}",
        "OtherPatientNames": f"Née {SURNAMES[(number + 1) % 5]}",
        "PatientBirthDate": f"1951{1 + number % 12:02d}{day}",
        "PatientAddress": f"{100 + number} Larkspur Crescent",
        "PatientTelephoneNumbers": f"+49 30 55{4000 + number}",
        "PatientMotherBirthName": f"Vandersloot{number}",
        "MilitaryRank": f"Colonel{number}",
        "AccessionNumber": f"ACC{88000 + number}",
        "StudyInstanceUID": f"1.3.6.1.4.1.99999.1.{number}",
        "SeriesInstanceUID": f"1.3.6.1.4.1.99999.2.{number}",
        "StudyID": f"ST{4400 + number}",
        "StudyDate": f"202207{day}",
        "StudyTime": f"1412{number % 60:02d}",
        "ReferringPhysicianName": f"Feuerbach^Dr{number}",
        "PerformingPhysicianName": f"Szymanski^P{number}",
        "InstitutionName": "Saint Elsewhere Infirmary",
        "InstitutionAddress": "9 Harbour Parade",
        "StationName": f"RAYROOM{number}",
        "PatientComments": f"found wandering near the quay {number}",
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("privacy")
    rows = ["path,label,patient,ward"]
    for number in range(50):
        elements = identifying(number)
        assert len(elements) == 20
        values = (smooth(number) * 4095).astype(np.uint16)
        dataset = dicom(values, 12, WindowCenter=2048, WindowWidth=4096, **elements)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
            f"1.3.6.1.4.1.99999.3.{number}"
        )
        dataset.private_block(0x0011, "ACME", create=True).add_new(1, "LO", f"Kowalczyk{number}")
        name = f"scan{number}_{elements['PatientName'].split('^')[0]}.dcm"
        write_dicom(root / "archive" / name, dataset)
        rows.append(f"{name},{('ill', 'well')[number % 2]},person-{number},Willowbrook")
    (root / "archive" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "archive" / "labels.csv").write_text("\n".join([*rows, "broken.png,ill,person-0,Willowbrook"]))
    return root / "archive"


@pytest.fixture(scope="module")
def clean(source: Path) -> Path:
    out = source.parent / "shards"
    options = [
        "--labels",
        str(source / "labels.csv"),
        "--size",
        "16",
        "--workers",
        "1",
        "--allow-quarantine",
        "1",
    ]
    assert main(["build", str(source), "--out", str(out), *options]) == 0
    return out


@pytest.fixture
def copy(clean: Path, tmp_path: Path) -> Path:
    """A copy with what lies beside it."""
    for path in clean.parent.glob("shards.*"):
        shutil.copy2(path, tmp_path / path.name)
    return Path(shutil.copytree(clean, tmp_path / "shards"))


def test_a_clean_build_passes(clean: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["verify", str(clean), "--privacy", str(source)]) == 0
    said = capsys.readouterr().out
    assert "none found" in said and "pixels were not searched" in said
    assert int(said.split("privacy: ")[1].split()[0]) > 50 * 20
    assert "shards.quarantine.csv names files of the source, for yourself" in said


def in_manifest(folder: Path) -> None:
    content = json.loads((folder / manifest.FILE).read_text())
    content["created_by"] += " for Abernathy, Quentin3"
    content["sha256"] = manifest.own_digest(content)
    (folder / manifest.FILE).write_bytes(manifest.encoded(content) + b"\n")


def repack(folder: Path, change: Callable[[tarfile.TarInfo, bytes], bytes]) -> None:
    path = folder / "train-000000.tar"
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, (member, data) in enumerate(members):
            data = change(member, data) if number in (4, 5) else data
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def in_a_json(folder: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        return (
            data.replace(b'"patient": "', b'"patient": "person-17 ') if member.name.endswith("json") else data
        )

    repack(folder, change)


def in_a_png(folder: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        text = b"Comment\0\0" + zlib.compress(b"ACC88021")
        chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
        return data[:33] + chunk + data[33:] if member.name.endswith("png") else data

    repack(folder, change)


def in_a_header(folder: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        member.uname = "szymanski_p4"
        return data

    repack(folder, change)


def in_an_extended_header(folder: Path) -> None:
    def change(member: tarfile.TarInfo, data: bytes) -> bytes:
        member.pax_headers = {"comment": "1.3.6.1.4.1.99999.2.33"}
        return data

    repack(folder, change)


def beside(name: str, text: str, mode: int = 0o644) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        path = folder.parent / name
        path.write_text(text)
        path.chmod(mode)

    return plant


def quarantine_for_all(folder: Path) -> None:
    (folder.parent / "shards.quarantine.csv").chmod(0o644)


PLANTED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a manifest": (in_manifest, "shards/manifest.json: PatientName 'ab…'"),
    "a sample's JSON": (in_a_json, ".json: a cell of column 'patient' 'pe…' of 9 characters"),
    "text in a PNG": (in_a_png, ".png: AccessionNumber"),
    "a tar header": (in_a_header, "names and headers: PerformingPhysicianName"),
    "an extended tar header": (in_an_extended_header, "names and headers: SeriesInstanceUID"),
    "a log beside": (beside("build.log", "read scan7_Marchetti.dcm"), "build.log: the name of a file"),
    "a date in a log": (beside("shards.txt", "on 1951-03-15\n"), "shards.txt: PatientBirthDate"),
    "a CSV column": (
        beside("shards/extra.csv", "key,ward\n1,willowbrook\n"),
        "extra.csv: a cell of column 'ward'",
    ),
    "a file's name": (beside("shards/HX770012.txt", ""), "its name: PatientID"),
    "a private attribute": (beside("shards.json", '{"a": ["kowalczyk9"]}'), "shards.json: (0011,1001)"),
    "a quarantine list for all": (quarantine_for_all, "others can read it: chmod go= shards.quarantine.csv"),
    "a quarantine list inside": (
        beside("shards/x.quarantine.csv", "scan7_Marchetti.dcm"),
        "x.quarantine.csv: the name",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_found(
    copy: Path, source: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plant, expected = PLANTED[name]
    plant(copy)
    capsys.readouterr()
    assert main(["verify", str(copy), "--privacy", str(source)]) == 1
    said = capsys.readouterr().out
    assert expected in said, said
    assert "FOUND" in said
    assert not any(surname.lower() in said.lower() for surname in SURNAMES)  # masked


def test_what_a_stopped_build_leaves(copy: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy.parent / "shards.work").mkdir(mode=0o700)
    (copy.parent / "shards.work" / "journal").write_text("scan7_Marchetti.dcm")
    capsys.readouterr()
    assert main(["verify", str(copy), "--privacy", str(source)]) == 0
    assert "shards.work names files of the source, for yourself" in capsys.readouterr().out
    (copy.parent / "shards.work").chmod(0o755)
    assert main(["verify", str(copy), "--privacy", str(source)]) == 1
    assert "chmod go= shards.work" in capsys.readouterr().out


def test_ids_like_numbers_of_the_manifest_are_no_finding(tmp_path: Path) -> None:
    """NIH's patients are numbers, as are sizes, offsets and counts; folders are called train and images."""
    for number in range(1, 13):
        write_png(
            tmp_path / "in" / ("ill", "well")[number % 2] / "images" / f"{512 * number:08d}_000.png", number
        )
    rows = ["path,label,patient"]
    rows += [
        f"{('ill', 'well')[n % 2]}/images/{512 * n:08d}_000.png,{('ill', 'well')[n % 2]},{512 * n}"
        for n in range(1, 13)
    ]
    (tmp_path / "in" / "train.csv").write_text("\n".join(rows))
    options = ["--labels", str(tmp_path / "in" / "train.csv"), "--size", "48", "--workers", "1"]
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *options]) == 0
    assert main(["verify", str(tmp_path / "out"), "--privacy", str(tmp_path / "in")]) == 0
    (tmp_path / "out.log").write_text("see 00001024_000.png")
    assert main(["verify", str(tmp_path / "out"), "--privacy", str(tmp_path / "in" / "train.csv")]) == 1


def test_a_class_that_is_a_patients_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        values = (smooth(number) * 255).astype(np.uint8)
        name = ("Okonkwo", "Lindqvist")[number % 2]
        write_dicom(
            tmp_path / "in" / name / f"{number}.dcm",
            dicom(values, 8, PatientName=name, PatientID=f"p{number}"),
        )
    assert (
        main(
            ["build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--size", "16", "--workers", "1"]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out"), "--privacy", str(tmp_path / "in")]) == 1
    assert "manifest.json: PatientName 'ok…'" in capsys.readouterr().out


def test_a_source_that_is_not_there(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(clean), "--privacy", "gone"]) == 2
    assert "no such file" in capsys.readouterr().err
