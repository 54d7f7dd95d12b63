"""More images at once than the memory takes: refused before training, with what fits, which is then taken."""

import re
from pathlib import Path

import pytest

from chexdist.config.load import load_config
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.distributed.world import World
from chexdist.doctor import memory
from chexdist.errors import UserError

ONE = World(0, 1, 0, 0)


@pytest.fixture
def manifest(shards: Path) -> Manifest:
    return read_manifest(str(shards))


def settings(manifest: Manifest, batch: int, accumulate: int = 1) -> list[str]:
    words = {"data.shards": manifest.directory, "model.size": manifest.size, "train.batch": batch}
    words |= {"train.group": 4, "train.accumulate": accumulate}
    return [word for name, value in words.items() for word in (f"--{name}", str(value))]


def said(manifest: Manifest, world: World, batch: int, accumulate: int = 1) -> str:
    """The refusal; empty where there is none."""
    try:
        memory.check_part(load_config("dcgan", settings(manifest, batch, accumulate)), manifest, world)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("world, here", [(ONE, 1), (World(0, 2, 0, 0), 2), (World(1, 4, 0, 1), 2)])
def test_what_fits_is_named_and_no_more_is_taken(
    world: World, here: int, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 3 << 30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    line = said(manifest, world, 100_000)
    assert line.startswith("train.batch 100000: ") and "free here 3.0 GiB" in line
    found = re.search(r"train.batch to ([0-9]+) or less, or train.accumulate to ([0-9]+) or more", line)
    assert found, line
    batch, parts = int(found[1]), int(found[2])
    assert said(manifest, world, batch) == "" != said(manifest, world, batch + 4 * world.size)
    assert said(manifest, world, 100_000, parts) == "" != said(manifest, world, 100_000, parts - 1)


def test_no_room_for_a_single_group(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    assert "lower train.group or model.width" in said(manifest, ONE, 4)


def test_what_the_kernel_does_not_say_is_enough(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert said(manifest, ONE, 100_000) == ""


def test_train_asks(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from chexdist.__main__ import main

    monkeypatch.setattr(memory, "free_memory", lambda: 3 << 30)
    words = settings(manifest, 100_000)
    assert main(["train", "--config", "dcgan", *words, "--run.dir", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "train.batch 100000" in err and len(err.splitlines()) == 1 and not (tmp_path / "run").exists()
