"""A checkpoint is complete or passed over; loading one can't run code, and saving one loses nothing."""

import builtins
import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from helpers import jobs
from helpers.faults import STEP, Waits

from chexdist.config.load import load_config
from chexdist.errors import UserError, WorkError
from chexdist.run import checkpoint, layout
from chexdist.run.directory import RunDirectory
from chexdist.run.retention import prune
from chexdist.run.saver import Saver
from chexdist.training.networks import Gan

SMALL = ["--model.size=32", "--model.width=4", "--model.latent=8", "--train.batch=16"]


def make_gan(config: str = "dcgan", *settings: str) -> Gan:
    """Networks and optimizers as training makes them, in a world of one."""
    alone: Any = SimpleNamespace(device=torch.device("cpu"), prepare_model=lambda network: network)
    return Gan(load_config(config, [*SMALL, *settings]), (40, 30), alone)


def fill(gan: Gan, value: float) -> Gan:
    """Give every tensor of the training state values of its own, near `value`."""
    with torch.no_grad():
        for number, tensor in enumerate(tensors(gan)):
            tensor.copy_(value + number + torch.linspace(0, 0.5, tensor.numel()).view(tensor.shape))
    return gan


def tensors(gan: Gan) -> list[torch.Tensor]:
    """Both networks, the average, and Adam's state for each."""
    return [tensor for named in gan.state().values() for tensor in named.values()]


def save(run: Path, gan: Gan, t: int) -> Path:
    return checkpoint.save(run, checkpoint.snapshot(gan.state()), state_at(t))


def state_at(t: int) -> checkpoint.State:
    return checkpoint.State(
        t=t,
        images=16 * t,
        settings={"train.seed": 0},
        manifest="digest",
        classes={"no_finding": 40, "finding": 30},
        machine={"threads": 1},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints at 16 and 32 images."""
    for t in (1, 2):
        save(tmp_path, fill(make_gan(), float(t)), t)
    return tmp_path


def files_of(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_everything_comes_back(run: Path) -> None:
    path, problems = checkpoint.newest(run)
    assert path is not None and path.name == "images-32" and not problems
    state = checkpoint.read_state(path, verify=True)
    assert state == state_at(2)
    gan = make_gan("dcgan", "--train.seed=5")
    checkpoint.load(path, gan.state())
    pairs = list(zip(tensors(gan), tensors(fill(make_gan(), 2.0)), strict=True))
    assert len(pairs) > 30
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_a_list(path: Path) -> None:
    path.write_text("[]")


def raise_schema(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


NAMES = ["generator", "critic", "ema", "generator_optimizer", "critic_optimizer"]
DAMAGE = [
    *((f"{name}.safetensors", damage) for name in NAMES for damage in (flip, Path.unlink)),
    *(("ema.safetensors", damage) for damage in (shorten, empty)),
    *((layout.STATE, damage) for damage in (shorten, empty, make_a_list)),
]


@pytest.mark.parametrize("name, damage", DAMAGE, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_checkpoint_is_passed_over_with_a_line(name: str, damage: Any, run: Path) -> None:
    damage(run / "checkpoints/images-32" / name)
    path, problems = checkpoint.newest(run)
    assert path is not None and path.name == "images-16"
    assert len(problems) == 1
    assert str(run / "checkpoints/images-32") in problems[0] and "passed over" in problems[0]
    assert "\n" not in problems[0]


def add_a_field(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_later_version": 1}))


@pytest.mark.parametrize("how", ["schema", "field", "disk"])
def test_what_may_be_whole_is_neither_passed_over_nor_deleted(
    how: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another version, or on a disk that does not answer: the start ends, and pruning leaves it."""
    state = run / "checkpoints/images-32/state.json"
    before = files_of(run)
    if how == "disk":
        real = Path.read_bytes

        def fails(path: Path) -> bytes:
            if "images-32" in str(path) and path.suffix == ".safetensors":
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return real(path)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", fails)
            with pytest.raises(checkpoint.UnreadableError, match=r"images-32.*Input/output error"):
                checkpoint.newest(run)
            prune(run, keep=2)
            prune(run, keep=1, best=32)
    else:
        (raise_schema if how == "schema" else add_a_field)(state)
        before = files_of(run)
        with pytest.raises(checkpoint.UnreadableError, match="does not know: resume it with the version"):
            checkpoint.newest(run)
        prune(run, keep=2)
        prune(run, keep=1, best=32)
    assert files_of(run) == before


def test_pruning_that_fails_does_not_end_the_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as of files that another job has open on NFS; the checkpoint itself is whole."""

    def busy(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "images-16")

    directory = RunDirectory(run)
    saver = Saver(directory, load_config("dcgan", ["--checkpoint.keep", "1"]))
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "rename", lambda path, to: os.rename(path, to) if "partial" in str(path) else busy()
        )
        saver.start(make_gan().state(), state_at(3))
        saver.wait()
    assert "left for the next save" in capsys.readouterr().out
    assert checkpoint.newest(run)[0] == run / "checkpoints/images-48"
    assert jobs.status(run)["images"] == 48
    saver.start(make_gan().state(), state_at(4))
    saver.wait()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["images-64"]


def test_without_its_last_file_it_is_none(run: Path) -> None:
    (run / "checkpoints/images-32/state.json").unlink()
    path, problems = checkpoint.newest(run)
    assert path is not None and path.name == "images-16"
    assert problems == []


def test_the_last_file_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are flushed before it is begun, and the directory gets its name after that."""
    flushed: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    final = save(tmp_path, make_gan(), 1)
    names = [Path(path).name for path in flushed]
    assert sorted(names[:5]) == sorted(f"{name}.safetensors" for name in NAMES)
    assert names[5:] == [layout.STATE, "checkpoints"]
    assert {Path(path).parent.name for path in flushed[:6]} == {f".partial-{final.name}"}


def test_only_the_newest_are_kept_and_nothing_half_saved(run: Path) -> None:
    save(run, make_gan(), 3)
    (run / "checkpoints/.partial-images-48").mkdir()
    (run / "checkpoints/.partial-images-48/ema.safetensors").write_bytes(b"half")
    prune(run, keep=2)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["images-32", "images-48"]


def test_the_best_is_kept_besides_the_newest(run: Path) -> None:
    """Among the newest it counts as one of them; damaged it is no better than any other."""
    for t in (3, 4):
        save(run, make_gan(), t)
    prune(run, keep=2, best=64)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["images-48", "images-64"]
    prune(run, keep=1, best=48)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["images-48", "images-64"]
    flip(run / "checkpoints/images-48/ema.safetensors")
    prune(run, keep=1, best=48)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["images-64"]


def test_what_a_killed_deletion_leaves_is_deleted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last file went first, so that nothing looks like a checkpoint any more."""

    def last_file_first(path: Path) -> NoReturn:
        (path / layout.STATE).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(shutil, "rmtree", last_file_first)
        prune(run, keep=1)
    prune(run, keep=1)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["images-32"]


def test_a_snapshot_is_a_copy() -> None:
    """What is trained later is not in it, whatever the memory layout; it shares none with the networks."""
    gan = fill(make_gan(), 1.0)
    taken, live = checkpoint.snapshot(gan.state()), {tensor.data_ptr() for tensor in tensors(gan)}
    fill(gan, 2.0)
    again = checkpoint.snapshot(fill(gan, 1.0).state())
    for file, content in taken.items():
        for key, tensor in content.items():
            assert tensor.is_contiguous() and tensor.data_ptr() not in live
            assert tensor.equal(again[file][key])


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(run: Path) -> None:
    """A run that fell back to 16 images and saved at 24 retains that; a damaged one has more images."""
    flip(run / "checkpoints/images-32/ema.safetensors")
    checkpoint.save(run, checkpoint.snapshot(make_gan().state()), replace(state_at(2), images=24))
    prune(run, keep=1)
    path, _ = checkpoint.newest(run)
    assert path is not None and path.name == "images-24"


@pytest.mark.parametrize(
    "config, settings",
    [("vanilla", []), ("dcgan", ["--model.width=8"]), ("dcgan", ["--model.conditional=false"])],
)
def test_other_networks_are_refused(config: str, settings: list[str], run: Path) -> None:
    with pytest.raises(UserError, match="other networks"):
        checkpoint.load(run / "checkpoints/images-32", make_gan(config, *settings).state())


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(how: str, run: Path) -> None:
    """Its digest is right: whoever can write the file can write the digest."""
    path, mark = run / "checkpoints/images-32", run / "mark"
    if how == "pickle":
        (path / "ema.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    else:
        torch.save(Bomb(mark), path / "ema.safetensors")
    document = json.loads((path / "state.json").read_text())
    document["files"]["ema.safetensors"] = hashlib.sha256((path / "ema.safetensors").read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(document))
    assert checkpoint.newest(run)[0] == path
    with pytest.raises(WorkError, match="ema.safetensors"):
        checkpoint.load(path, make_gan().state())
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def test_loading_uses_no_pickle(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a pickle was read")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr(builtins, "exec", refuse)
    path, _ = checkpoint.newest(run)
    assert path is not None
    checkpoint.load(path, make_gan().state())


@pytest.mark.parametrize("number", range(1, 8))
def test_a_write_that_fails_leaves_what_was_there(
    number: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each flush in turn finds the disk full."""
    before, calls = files_of(run), iter(range(1, 100))

    def full(_: int) -> None:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkError, match=r"images-48.*No space left"):
        save(run, make_gan(), 3)
    after = files_of(run)
    assert {name: after.get(name) for name in before} == before
    assert not list((run / "checkpoints").glob(".partial-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        pytest.skip("a small file system can't be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_up(disk: Path, spare: int) -> Path:
    """Leave so many bytes free on a file system; returns the file that holds the rest."""
    filler = disk / "filler"
    for _ in range(20):
        filler.unlink(missing_ok=True)
        free = os.statvfs(disk)
        try:
            filler.write_bytes(bytes(free.f_bavail * free.f_bsize - spare))
        except OSError as error:  # a heartbeat was written at the same moment
            assert error.errno == errno.ENOSPC
        else:
            return filler
    raise AssertionError(f"{disk} does not stand still")


@pytest.mark.parametrize("size, spare", [(1, 256 * 1024), (2, 256 * 1024), (1, 0)])
def test_a_full_disk_ends_the_run(
    size: int, spare: int, shards: Path, small_disk: Path, tmp_path: Path
) -> None:
    """After the first checkpoint no second, or nothing at all, fits: all ranks end, and the first is good."""
    run, gate = small_disk / "run", Waits(STEP, 5, tmp_path / "gate")
    words = jobs.small(shards, run, "vanilla")
    job = jobs.start(words, tmp_path / "log", size, gate)
    # a thread writes it, which may still be at work when the gate is reached
    job.until(lambda: gate.reached() and jobs.status(run)["images"] == 48)
    filler = fill_up(small_disk, spare)
    gate.gate.touch()
    codes = job.wait(30)
    assert codes == [1] * size, job.output
    said = (
        rf"{re.escape(str(run))}\S*: No space left on device: [0-9,]+ bytes are needed, [0-9,]+ are free in "
    )
    assert re.search(said + re.escape(str(run)), job.output), job.output
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["images-48"]
    found = jobs.status(run)
    if spare:
        assert found["state"] == "failed" and found["images"] == 48 and "No space left" in found["cause"]
    filler.unlink()
    output = jobs.run(words, tmp_path / "again", size).output
    assert "resuming from images-48" in output
    assert "Traceback" not in job.output, job.output
