"""Faults planted in a sound configuration: the doctor names each with its cure and ends with 1."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.doctors import Patient, faults, words

from chexdist.data.reader import SampleReader
from chexdist.doctor import memory, packages
from chexdist.training import precision
from shards.free_memory import free_memory


def test_a_sound_configuration_has_no_fault(patient: Patient, shards: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    code, lines = patient(words(shards, tmp_path / "runs/a"))
    assert (code, faults(lines)) == (0, [])
    assert lines[-1].startswith("0 faults, ")
    said = {line[13:].partition(":")[0] for line in lines[:-1]}
    assert said >= {
        "packages",
        "backend",
        "world",
        "devices",
        "bf16",
        "shards",
        "reading",
        "configuration",
        "batch",
    }
    assert said >= {"loaders", "memory", "run.dir", "checkpoints", "disk", "speed", "data rate"}
    assert any("72 of 72 training samples were decoded" in line for line in lines)
    assert sorted(tmp_path.iterdir()) == before, "the doctor leaves nothing behind"


def test_the_machine_alone(patient: Patient) -> None:
    """Without a configuration it says what it did not look at."""
    code, lines = patient(["doctor"])
    assert (code, faults(lines)) == (0, [])
    skipped = [line for line in lines if line.startswith("not checked")]
    assert [part for part in ("--data.shards", "--config", "--run.dir") if part not in "".join(skipped)] == []


def test_shards_alone(patient: Patient, shards: Path) -> None:
    code, lines = patient(["doctor", "--data.shards", str(shards)])
    assert code == 0 and any("72 of 72" in line for line in lines)


def flip(shards: Path, number: int) -> None:
    """Change one byte in the middle of a training sample's picture."""
    shard = json.loads((shards / "manifest.json").read_text())["splits"]["train"]["shards"][1]
    middle = shard["index"]["offset"][number] + shard["index"]["size"][number] // 2
    with (shards / shard["file"]).open("r+b") as file:
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copy"))


def test_a_flipped_bit(patient: Patient, copied: Path, tmp_path: Path) -> None:
    flip(copied, 7)
    code, lines = patient(words(copied, tmp_path / "run"))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("reading: 1 of ")
    assert (
        "train-000001.tar" in fault and "chexdist-shards verify" in fault and "copy the shard again" in fault
    )


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_shard_gone_or_cut(how: str, patient: Patient, copied: Path, tmp_path: Path) -> None:
    """The rest is examined all the same."""
    shard = copied / "train-000002.tar"
    if how == "gone":
        shard.unlink()
    else:
        os.truncate(shard, 512)
    code, lines = patient(words(copied, tmp_path / "run"))
    (fault,) = faults(lines)
    assert (
        code == 1 and fault.startswith("shards: ") and str(shard) in fault and "copy it here again" in fault
    )
    assert any("disk" in line for line in lines) and any("speed" in line for line in lines)


def test_shards_of_another_size(patient: Patient, shards: Path, tmp_path: Path) -> None:
    code, lines = patient(words(shards, tmp_path / "run", model__size=64))
    (fault,) = faults(lines)
    assert code == 1 and "set model.size to 32, or build with --size 64" in fault


def test_more_groups_asked_for_than_there_are(patient: Patient, shards: Path, tmp_path: Path) -> None:
    code, lines = patient(words(shards, tmp_path / "run", train__accumulate=3))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("batch: ") and "lower train.accumulate or train.group" in fault


def test_two_asked_for_one_got(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXDIST_WORLD_SIZE", "2")
    code, lines = patient(words(shards, tmp_path / "run"))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("world: CHEXDIST_WORLD_SIZE asks for 2 processes")
    assert "--multi_gpu --num_processes 2" in fault


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 128 KiB: a true one where this process may mount it, else one that says so."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        true = os.statvfs
        full = SimpleNamespace(f_bavail=32, f_frsize=4096)
        monkeypatch.setattr(os, "statvfs", lambda path: full if Path(path) == disk else true(path))
    yield disk
    if not mounted.returncode:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_too_small(patient: Patient, shards: Path, small_disk: Path) -> None:
    code, lines = patient(words(shards, small_disk, checkpoint__keep=3))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("disk: ") and "3 + the best + 1 checkpoints" in fault
    assert "lower checkpoint.keep" in fault


def test_a_run_directory_that_is_a_file(patient: Patient, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    code, lines = patient(words(shards, tmp_path / "run"))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("run.dir: ") and "give --run.dir a directory" in fault
    assert (tmp_path / "run").read_text() == ""


def test_a_run_directory_that_can_t_be_made(patient: Patient, shards: Path) -> None:
    code, lines = patient(words(shards, Path("/proc/run")))
    (fault,) = faults(lines)
    assert code == 1 and "/proc/run can't be written" in fault


HOLD = (
    "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
    "file.write('process 5 on b'); file.flush(); print('held', flush=True); sys.stdin.read()"
)


def test_a_run_directory_in_use(patient: Patient, shards: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as job:
        assert job.stdout is not None and job.stdout.readline() == b"held\n"
        code, lines = patient(words(shards, tmp_path))
        job.communicate(b"")
    (fault,) = faults(lines)
    assert (
        code == 1 and "in use by a live job (process 5 on b)" in fault and "choose another run.dir" in fault
    )
    code, lines = patient(words(shards, tmp_path))
    assert code == 0, "a lock whose job has ended is none"


def test_a_file_system_without_locks(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    code, lines = patient(words(shards, tmp_path / "run"))
    (fault,) = faults(lines)
    assert code == 1 and "takes no locks: Function not implemented" in fault and "-o flock" in fault


def checkpoint(run: Path, manifest: str, settings: dict[str, Any]) -> None:
    """A checkpoint that is whole, of no tensors."""
    folder = run / "checkpoints/images-64"
    folder.mkdir(parents=True)
    state = {"schema": 1, "t": 4, "images": 64, "settings": settings, "manifest": manifest, "files": {}}
    (folder / "state.json").write_text(json.dumps({**state, "classes": {}, "machine": {}}))


def settings_of(given: list[str]) -> dict[str, Any]:
    from chexdist.config.load import load_config
    from chexdist.config.rules import frozen

    return frozen(load_config(given[2], given[3:]))


def test_a_run_begun_with_other_shards(patient: Patient, shards: Path, tmp_path: Path) -> None:
    given = words(shards, tmp_path / "run")
    checkpoint(tmp_path / "run", "0" * 64, settings_of(given))
    code, lines = patient(given)
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("checkpoints: this run began with other shards")
    assert "choose another run.dir" in fault


def test_a_damaged_checkpoint_is_a_warning(patient: Patient, shards: Path, tmp_path: Path) -> None:
    given = words(shards, tmp_path / "run")
    digest = hashlib.sha256((shards / "manifest.json").read_bytes()).hexdigest()
    checkpoint(tmp_path / "run", digest, settings_of(given))
    state = tmp_path / "run/checkpoints/images-64/state.json"
    state.write_text(state.read_text().replace('"files": {}', '"files": {"critic.safetensors": "0"}'))
    code, lines = patient(given)
    assert code == 0 and any(line.startswith("warning ") and "images-64 is damaged" in line for line in lines)


def test_a_batch_that_no_memory_holds(patient: Patient, shards: Path, tmp_path: Path) -> None:
    """Nothing of it is allocated."""
    begun = time.process_time()
    code, lines = patient(words(shards, tmp_path / "run", train__batch=80_000_000, data__workers=0))
    (fault,) = faults(lines)
    assert (
        code == 1
        and fault.startswith("memory: estimate: ")
        and "passes of a step of 80,000,000 images" in fault
    )
    assert "cure: raise train.accumulate (now 1)" in fault
    assert not any("speed" in line[:20] for line in lines) and time.process_time() - begun < 20


def test_a_decoded_split_that_memory_does_not_hold(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """72 images of 32 x 32 bytes are 72 KiB; without them the rest fits, where no loader hands over more."""
    given, terms, original = words(shards, tmp_path / "run", data__workers=0), {}, memory.main_terms

    def recorded(*arguments: Any, **named: Any) -> memory.Terms:
        terms.update(original(*arguments, **named) if not terms else {})
        return original(*arguments, **named)

    monkeypatch.setattr(memory, "main_terms", recorded)
    monkeypatch.setattr(memory, "free_memory", lambda: 2**40)
    assert patient(given)[0] == 0 and terms["decoded split"] == 72 << 10
    needed = sum(terms.values())
    monkeypatch.setattr(memory, "free_memory", lambda: needed - (64 << 10))
    code, lines = patient(given)
    (fault,) = faults(lines)
    assert code == 1 and "cure: lower data.memory (now 2048)" in fault
    assert patient([*given, "--data.memory", "0"])[0] == 0
    code, lines = patient(words(shards, tmp_path / "run", data__workers=8))
    assert code == 1 and "lower data.memory" not in faults(lines)[0]


def test_what_a_control_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a job is below what the machine has free."""
    assert free_memory() is not None
    monkeypatch.setattr("shards.free_memory._left_in_groups", lambda: [2**20, 2**30])
    assert free_memory() == 2**20


def test_loaders_without_shared_memory(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = os.statvfs
    full = SimpleNamespace(f_bavail=16, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: full if str(path) == "/dev/shm" else true(path))
    code, lines = patient(words(shards, tmp_path / "run", data__workers=8))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("loaders: ") and "--shm-size" in fault


def slow(function: Callable[..., Any]) -> Callable[..., Any]:
    def slower(*arguments: Any) -> Any:
        time.sleep(0.2)
        return function(*arguments)

    return slower


def test_storage_that_is_too_slow(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning where every epoch is read, none where memory holds the split after the first."""
    monkeypatch.setattr(SampleReader, "read", slow(SampleReader.read))
    given = words(shards, tmp_path / "run", config="vanilla", data__workers=1)
    code, lines = patient([*given, "--data.memory", "0"])
    (line,) = [line for line in lines if line.startswith("warning ") and "data rate" in line]
    assert code == 0 and "training waits for data; cure: set data.workers " in line
    code, lines = patient(given)
    (line,) = [line for line in lines if "data rate" in line[:30]]
    assert line.startswith("ok ") and "waits in the first epoch" in line


def test_a_package_that_is_too_old_or_missing(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    true = metadata.version

    def version(name: str) -> str:
        if name == "webdataset":
            raise metadata.PackageNotFoundError(name)
        return "2.3.1" if name == "torch" else true(name)

    monkeypatch.setattr(packages.metadata, "version", version)
    monkeypatch.setattr(
        packages.metadata, "requires", lambda _: ["torch>=2.11", "webdataset>=1.0", 'scipy; extra == "dev"']
    )
    code, lines = patient(["doctor"])
    assert code == 1 and faults(lines) == [
        (
            "packages: torch 2.3.1 is installed, chexdist needs torch>=2.11; "
            "cure: pip install --upgrade 'torch>=2.11'"
        ),
        "packages: webdataset is not installed; cure: pip install 'webdataset>=1.0'",
    ]


def test_a_package_that_can_t_be_imported(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing else can be looked at, and it says so."""
    monkeypatch.setitem(sys.modules, "webdataset", None)
    code, lines = patient(["doctor"])
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith("packages: webdataset can't be imported")
    assert fault.endswith("cure: pip install --force-reinstall webdataset")
    assert any(line.startswith("not checked  everything else") for line in lines)


def test_a_check_that_breaks_is_a_fault(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chexdist.doctor import examine

    def broken(*_: object) -> None:
        raise ZeroDivisionError("on purpose\nand more")

    monkeypatch.setattr(examine, "check_bf16", broken)
    code, lines = patient(words(shards, tmp_path / "run"))
    (fault,) = faults(lines)
    assert code == 1 and fault.startswith(
        "bf16: the check itself broke: ZeroDivisionError: on purpose and more; cure: "
    )


def test_bf16_where_it_is_slow_is_a_warning(
    patient: Patient, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda _, dtype: 2.0 if "bfloat16" in str(dtype) else 1.0)
    code, lines = patient(words(shards, tmp_path / "run", train__precision="bf16"))
    (line,) = [line for line in lines if line.startswith("warning ") and "bf16" in line]
    assert code == 0 and "0.50 x" in line and "set train.precision no" in line


MISTAKES = {
    "unknown option": (["doctor", "--config", "dcgan", "--epochs", "5"], "--epochs"),
    "unknown key": (["doctor", "--config", "dcgan", "--train.bacth", "5"], "nearest is train.batch"),
    "unknown config": (["doctor", "--config", "dgcan"], "dcgan"),
    "settings without a config": (["doctor", "--train.batch", "5"], "give --config too"),
    "stray word": (["doctor", "now"], "now"),
    "world of none": (["doctor", "--simulate-world", "0"], "must be 1 to"),
    "world of words": (["doctor", "--simulate-world", "many"], "invalid int"),
    "world without samples": (["doctor", "--config", "dcgan", "--simulate-world", "4"], "--data.shards"),
    "batch norm and penalty": (["doctor", "--config", "wgan-gp", "--model.norm", "batch"], "model.norm"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_the_command_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    from chexdist.__main__ import main

    given, expected = MISTAKES[case]
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and expected in err
