"""Which fixtures every test may use: shard directories, made by the shard builder, once a session each, and a
control group.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: many small processes share a few cores

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

pytest.register_assert_rewrite("helpers", "chaos")  # so that their assertions say what differed
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

BuildShards = Callable[..., Path]
TESTS = Path(__file__).parent
GROUPS = Path("/sys/fs/cgroup/memory")
"""Version 1's memory controller."""
TRAINS = (
    "benchmarks",
    "cli/test_compare_command.py",
    "cli/test_evaluate_checkpoints.py",
    "cli/test_evaluate_command.py",
    "cli/test_evaluate_mistakes.py",
    "cli/test_export.py",
    "cli/test_generate.py",
    "cli/test_generate_ways.py",
    "data/test_remote_command.py",
    "data/test_remote_reading.py",
    "doctor/test_command.py",
    "doctor/test_memory_limit.py",
    "doctor/test_ranks.py",
    "extension",
    "gpu",
    "metrics/test_adding_a_metric.py",
    "notebooks",
    "packaging/test_configurations.py",
    "packaging/test_launch_files.py",
    "packaging/test_wheel.py",
    "promises/test_collectives.py",
    "promises/test_sum.py",
    "runs",
)
"""Folders and files whose tests train whole runs or start many programs: not in `make test-fast`."""


def pytest_configure(config: pytest.Config) -> None:
    """GPUs are for `-m gpu` alone: all other tests compute on the CPU, wherever they run."""
    if config.option.markexpr != "gpu" and Path("/dev/nvidiactl").exists():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_report_header(config: pytest.Config) -> str:
    """What ranks compute on."""
    if config.option.markexpr != "gpu":
        return "device: cpu (tests/gpu as a dry run; make test-gpu takes a CUDA device)"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return "device: cpu (dry run: no CUDA device)"
    return f"device: cuda ({count} x {torch.cuda.get_device_name()}; worlds of up to {count} over NCCL)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    training = [TESTS / name for name in TRAINS]
    missing = [path for path in training if not path.exists()]
    assert not missing, f"conftest.TRAINS names {missing}"
    for item in items:
        if any(path in (item.path, *item.path.parents) for path in training):
            item.add_marker("trains")
        if TESTS / "gpu" in item.path.parents:
            item.add_marker("gpu")


def write_class_folders(root: Path, images: int, side: int = 40) -> Path:
    """`root/{Finding,No_finding}/{patient}.png`: 8-bit gray, no two the same, a third with a finding."""
    for patient in range(images):
        folder = root / ("No_finding" if patient % 3 else "Finding")
        folder.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(patient).random((8, 8), np.float32)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        Image.fromarray((np.asarray(smooth).clip(0, 1) * 255).astype(np.uint8)).save(
            folder / f"{patient:04d}.png"
        )
    return root


@pytest.fixture(scope="session")
def build_shards(tmp_path_factory: pytest.TempPathFactory) -> BuildShards:
    """`build_shards(images, samples_per_shard, ...)` -> a shard directory, each made once."""
    made: dict[tuple[int, int, int, int, str], Path] = {}

    def build(
        images: int, samples_per_shard: int, size: int = 32, bits: int = 8, split: str = "train=1"
    ) -> Path:
        wanted = (images, samples_per_shard, size, bits, split)
        if wanted not in made:
            root = tmp_path_factory.mktemp("shards")
            sources = write_class_folders(root / "sources", images)
            key = root / "key"  # a fixed one: a fresh key would be other names of samples each time
            key.write_text("5e" * 32)
            key.chmod(0o600)
            command: list[object] = [sys.executable, "-m", "shards", "build", sources, "--out", root / "out"]
            command += ["--samples-per-shard", samples_per_shard, "--size", size, "--bits", bits]
            command += ["--split", split, "--key-file", key, "--workers", 1]
            subprocess.run([str(word) for word in command], check=True, capture_output=True)
            made[wanted] = root / "out"
        return made[wanted]

    return build


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own, of version 1's memory controller."""
    if os.geteuid() or not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("needs root and version 1's memory controller at /sys/fs/cgroup/memory")
    own = GROUPS / f"chexdist-test-{os.getpid()}"
    own.mkdir()
    yield own
    for _ in range(50):  # processes that ended leave it a moment later
        try:
            own.rmdir()
            return
        except OSError:
            time.sleep(0.1)
