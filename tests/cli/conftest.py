"""The shards that the tests of commands name, good ones and copies with one thing wrong; and runs of them."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """72 training images of 32 px in four shards, 24 for validation."""
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(scope="session")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A conditional and an unconditional run with checkpoints of untrained networks; never to be changed."""
    from helpers.evaluated import make_run

    folder = tmp_path_factory.mktemp("runs")
    return {
        conditional: make_run(shards, folder / str(conditional), conditional) for conditional in (True, False)
    }


@pytest.fixture
def run(runs: dict[bool, Path], tmp_path: Path) -> Path:
    """A conditional run to be changed."""
    return Path(shutil.copytree(runs[True], tmp_path / "run"))


@pytest.fixture
def edited(shards: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """`edited(edit)` -> a copy of the shard directory whose manifest `edit` has changed."""

    def copy(edit: Edit) -> Path:
        target = tmp_path / "edited"
        shutil.copytree(shards, target)
        document = json.loads((target / "manifest.json").read_text())
        edit(document)
        (target / "manifest.json").write_text(json.dumps(document))
        return target

    return copy


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that is not found must fail its test, not train."""
    monkeypatch.setitem(sys.modules, "chexdist.training.trainer", SimpleNamespace(train=lambda *_: 0))


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a launcher, whatever the tests themselves were started by."""
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "SLURM_NTASKS",
        "SLURM_STEP_NUM_TASKS",
        "CHEXDIST_WORLD_SIZE",
    ):
        monkeypatch.delenv(name, raising=False)
