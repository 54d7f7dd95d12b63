"""`verify` finds every flipped bit, every missing or extra file, and every edit of the manifest."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.xray_files import class_folders

from shards import manifest
from shards.__main__ import main
from shards.checking.verify import verify
from shards.errors import WorkError


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tamper")
    source = class_folders(root / "in", 5)
    options = [
        "--size",
        "8",
        "--workers",
        "1",
        "--patient-pattern",
        "^(....)",
        "--split",
        "train=0.5,val=0.5",
    ]
    assert main(["build", str(source), "--out", str(root / "out"), *options]) == 0
    return root / "out"


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def found(folder: Path) -> bool:
    try:
        return verify(folder) == 1
    except WorkError:
        return True


def unnoticed(folder: Path, file: str, bits: list[int]) -> list[str]:
    """Of the bits, flipped one at a time, those that `verify` does not find. The file is then as it was."""
    path, missed = folder / file, []
    right = path.read_bytes()
    for bit in bits:
        data = bytearray(right)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        if not found(folder):
            around = bytes(data[bit // 8 - 20 : bit // 8 + 20])
            missed.append(f"{file}: bit {bit % 8} of byte {bit // 8}: {around!r}")
    path.write_bytes(right)
    return missed


def test_flipped_bits_anywhere(copy: Path) -> None:
    rng = random.Random(3)
    assert not found(copy)
    for path in sorted(copy.iterdir()):
        bits = [rng.randrange(8 * path.stat().st_size) for _ in range(60)]
        assert unnoticed(copy, path.name, bits) == []
    assert not found(copy)


@pytest.mark.slow
def test_a_flipped_bit_in_every_byte_of_the_manifest(copy: Path) -> None:
    rng = random.Random(4)
    size = (copy / manifest.FILE).stat().st_size
    bits = [8 * byte + rng.randrange(8) for byte in range(size)]
    assert unnoticed(copy, manifest.FILE, bits) == []
    assert not found(copy)


def test_missing_and_extra_files(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(copy.iterdir()):
        data = path.read_bytes()
        path.unlink()
        assert main(["verify", str(copy)]) == (2 if path.name == manifest.FILE else 1)
        path.write_bytes(data)
    assert main(["verify", str(copy)]) == 0
    for name in ("notes.txt", ".hidden", "train-000009.tar", "with\nnewline.json", "sheet.png"):
        (copy / name).write_bytes(b"x")
        capsys.readouterr()
        assert main(["verify", str(copy)]) == 1
        lines = [line for line in capsys.readouterr().out.splitlines() if "is not in the manifest" in line]
        assert len(lines) == 1 and name.split("\n")[0] in lines[0]
        (copy / name).unlink()
    (copy / "folder").mkdir()
    assert main(["verify", str(copy)]) == 1


def first(content: dict[str, Any]) -> dict[str, Any]:
    return content["splits"]["train"]["shards"][0]["index"]


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "seed": lambda content: content["build"].update(seed=7),
    "patients": lambda content: content["build"].update(patients="dicom"),
    "clusters": lambda content: content["build"]["duplicates"].update(clusters=3),
    "key_id": lambda content: content["build"].update(key_id="00000000"),
    "created_by": lambda content: content.update(created_by="me"),
    "dicom": lambda content: content["render"].update(dicom="otherwise"),
    "window": lambda content: content["render"].update(window="first"),
    "threshold": lambda content: content["build"]["duplicates"].update(threshold=0.5),
    "fractions": lambda content: content["build"]["split"].update(train=0.6, val=0.4),
    "no digest": lambda content: content.pop("sha256"),
    "patient": lambda content: first(content)["patient"].__setitem__(0, "0" * 16),
    "cluster": lambda content: first(content)["cluster"].__setitem__(0, "0" * 16),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_manifest(copy: Path, name: str) -> None:
    content = json.loads((copy / manifest.FILE).read_text())
    EDITS[name](content)
    (copy / manifest.FILE).write_bytes(manifest.encoded(content) + b"\n")
    assert found(copy)


@pytest.mark.parametrize("name", ["patient", "cluster", "clusters"])
def test_edits_whose_digest_was_mended(copy: Path, name: str) -> None:
    content = json.loads((copy / manifest.FILE).read_text())
    EDITS[name](content)
    content["sha256"] = manifest.own_digest(content)
    (copy / manifest.FILE).write_bytes(manifest.encoded(content) + b"\n")
    assert found(copy)


def test_a_manifest_written_otherwise(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((copy / manifest.FILE).read_text())
    (copy / manifest.FILE).write_text(json.dumps(content, indent=1))
    assert main(["verify", str(copy)]) == 1
    assert "not those that were written" in capsys.readouterr().out


def test_a_directory_of_an_earlier_release_is_sound(copy: Path) -> None:
    """Its manifest has no digest of itself, and its settings an earlier version."""
    content = json.loads((copy / manifest.FILE).read_text())
    del content["sha256"]
    content["render"]["version"] = 3
    (copy / manifest.FILE).write_text(json.dumps(content))
    assert main(["verify", str(copy)]) == 0
