"""What the doctor is shown: sound shards, and a manifest of 100,000 samples."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.doctors import Patient
from helpers.many_samples import write_many

from chexdist.doctor import memory

LAUNCHERS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS",
    "CHEXDIST_WORLD_SIZE",
)


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """72 training images of 32 px in four shards, 24 for validation."""
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(autouse=True)
def garbage_is_collected() -> Iterator[None]:
    """Again, after a command whose process would have ended."""
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of a launcher, whatever the tests themselves were started by."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def all_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a test grows between two estimates."""
    monkeypatch.setattr(memory, "held", lambda: memory.PROCESS)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 training samples in 100 shards."""
    return write_many(tmp_path_factory.mktemp("many"), shards=100, samples=1000)


@pytest.fixture
def patient(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Patient:
    """The doctor in this process, in a hurry: no torchvision, no timing of bf16, a step or two timed."""
    from chexdist.doctor import examine, speed
    from chexdist.training import precision

    monkeypatch.setattr(examine, "try_torchvision", lambda: lambda note: None)
    monkeypatch.setattr(precision, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(precision, "remembered_gain", lambda _: 1.0)  # no file of the user
    monkeypatch.setattr(speed, "SECONDS", 0)
    return Patient(capsys)
