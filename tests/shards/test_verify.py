"""`verify` finds each kind of damage and names its place; the manifest follows its schema."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.xray_files import class_folders

from shards import manifest
from shards.__main__ import main
from shards.quarantine import Code

SCHEMA = json.loads((Path(manifest.__file__).parent / "manifest.schema.json").read_text())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("verify")
    source = class_folders(root / "in", 20)
    options = ["--size", "16", "--workers", "1", "--patient-pattern", "^(....)"]
    assert main(["build", str(source), "--out", str(root / "out"), *options]) == 0
    return root / "out"


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def rebind(folder: Path) -> None:
    """Make the manifest's digests agree with the tars, so that only the deeper checks can find a fault."""

    def update(content: dict[str, Any]) -> None:
        for split in content["splits"].values():
            for shard in split["shards"]:
                data = (folder / shard["file"]).read_bytes()
                shard.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change(folder, update)


def faults(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    output = capsys.readouterr()
    return output.out + output.err


def train(content: dict[str, Any]) -> dict[str, Any]:
    return content["splits"]["train"]["shards"][0]


def test_a_sound_directory(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(sound)]) == 0
    assert "40 images are sound" in capsys.readouterr().out
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads((sound / "manifest.json").read_text()), SCHEMA)


def test_the_schema_knows_every_code_and_no_other() -> None:
    codes = SCHEMA["$defs"]["quarantine"]["properties"]["codes"]["propertyNames"]["enum"]
    assert sorted(codes) == sorted(Code)


@pytest.mark.parametrize("place", ["png", "json", "header"])
def test_a_flipped_byte(copy: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    index = train(json.loads((copy / "manifest.json").read_text()))["index"]
    offset = {
        "png": index["offset"][3] + 60,
        "json": index["offset"][3] + 1024 + 20,
        "header": index["offset"][3] - 500,
    }
    data = bytearray((copy / "train-000000.tar").read_bytes())
    if place == "json":
        offset["json"] = data.index(b'"label": ', index["offset"][3]) + 9
    data[offset[place]] ^= 1
    (copy / "train-000000.tar").write_bytes(data)
    assert "train-000000.tar: its SHA-256" in faults(copy, capsys)
    rebind(copy)
    key = index["key"][3]
    expected = {
        "png": f"{key}.png: its CRC-32",
        "json": f"{key}.json: it does not agree",
        "header": "train-000000.tar: ",
    }
    assert expected[place] in faults(copy, capsys)


def test_missing_cut_and_foreign_shards(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "val-000000.tar").unlink()
    (copy / "train-000007.tar").write_bytes(b"")
    (copy / "test-000000.tar").write_bytes((copy / "test-000000.tar").read_bytes()[:3000])
    output = faults(copy, capsys)
    assert "val-000000.tar: is missing" in output
    assert "train-000007.tar: is not in the manifest" in output
    assert "test-000000.tar: 3000 bytes, not" in output


def swap_labels(content: dict[str, Any]) -> None:
    labels = train(content)["index"]["label"]
    first, second = labels.index(0), labels.index(1)
    labels[first], labels[second] = 1, 0


def share_patient(content: dict[str, Any]) -> None:
    other = content["splits"]["test"]["shards"][0]["index"]
    train(content)["index"]["patient"][0] = other["patient"][0]


EDITS = {
    "labels": (swap_labels, ".json: it does not agree"),
    "patient": (share_patient, "is in train and in test"),
    "count": (lambda content: train(content).update(samples=3), "differ in length"),
    "classes": (lambda content: train(content).update(classes=[1, 2]), "does not follow from the labels"),
    "few classes": (lambda content: train(content).update(classes=[1]), "does not follow from the labels"),
    "float": (lambda content: train(content)["index"]["label"].__setitem__(0, 1.0), "index/label/0"),
    "escape": (lambda content: content.update(classes=["a", "\x1b[2J"]), "classes/1"),
    "total": (lambda content: content["splits"]["val"].update(patients=99), "totals do not follow"),
    "offset": (lambda content: train(content)["index"]["offset"].__setitem__(2, 7), "not at the offset"),
    "crc": (lambda content: train(content)["index"]["crc32"].__setitem__(2, 7), "its CRC-32"),
    "key": (
        lambda content: train(content)["index"]["key"].__setitem__(1, "0" * 16),
        "not those of the index",
    ),
    "size": (lambda content: content["render"].update(size=32), "it is 16 x 16 of mode L, not 32 x 32"),
    "bits": (lambda content: content["render"].update(bits=16), "of mode L, not 16 x 16 of 16 bits"),
    "quarantine": (lambda content: content["quarantine"].update(total=5), "quarantine: total"),
    "unknown": (lambda content: content.update(extra=1), "'extra'"),
    "path": (lambda content: train(content).update(file="../x.tar"), "splits/train/shards/0/file"),
    "digest": (lambda content: train(content).update(sha256="00"), "splits/train/shards/0/sha256"),
    "wrong_type": (
        lambda content: train(content)["index"].update(offset="x"),
        "splits/train/shards/0/index/offset",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_changed_manifest(copy: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, expected = EDITS[name]
    change(copy, edit)
    assert expected in faults(copy, capsys)


def test_a_manifest_that_is_no_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "manifest.json").write_bytes(b"\xff{")
    assert "is not JSON" in faults(copy, capsys)
    (copy / "manifest.json").unlink()
    assert main(["verify", str(copy)]) == 2
    assert "not a finished shard directory" in capsys.readouterr().err


def test_inspect_shows_the_counts(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(sound)]) == 0
    output = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in output.splitlines() if line.startswith("│")}
    for name, split in manifest.read(sound).splits.items():
        assert [int(cell) for cell in rows[name].split("│")[2:6]] == [
            split.samples,
            *split.classes,
            split.patients,
        ]
    assert "pattern" in rows["patients"]
