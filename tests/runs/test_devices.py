"""On which device each rank computes: said in the first line, and refused where it is not what was meant.

There is no GPU here: what torch would see on a rank is put in its place.
"""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import jobs
from hypothesis import given
from hypothesis import strategies as st

from chexdist.__main__ import main
from chexdist.commands import evaluate
from chexdist.distributed import devices
from chexdist.distributed.devices import ALLOTTED, Device, Visible, choose, described, refusal, use
from chexdist.distributed.world import World
from chexdist.errors import UserError

NONE, EIGHT, ONE = Visible(0, "torch is built without CUDA: install another"), Visible(8), Visible(1)
TABLE: list[tuple[dict[str, str], Visible, int, str]] = [
    # (the job's variables, what torch sees, LOCAL_RANK, the device or what is said)
    ({}, NONE, 0, "cpu"),
    ({}, EIGHT, 0, "cuda:0"),
    ({}, EIGHT, 5, "cuda:5"),
    ({"CUDA_VISIBLE_DEVICES": "4"}, ONE, 4, "cuda:0"),  # Slurm's --gpus-per-task or --gpu-bind
    ({"CUDA_VISIBLE_DEVICES": "2,3"}, Visible(2), 1, "cuda:1"),
    ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_STEP_GPUS": "0"}, ONE, 7, "cuda:0"),
    ({"CUDA_VISIBLE_DEVICES": ""}, NONE, 0, "cpu"),
    ({"CUDA_VISIBLE_DEVICES": "", "SLURM_GPUS_ON_NODE": "8"}, NONE, 3, "cpu"),
    ({"CUDA_VISIBLE_DEVICES": "-1", "SLURM_JOB_GPUS": "0,1"}, NONE, 0, "cpu"),
    ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, NONE, 0, "cpu"),
    ({"ACCELERATE_USE_CPU": "true"}, EIGHT, 0, "cpu"),
    ({"ACCELERATE_USE_CPU": "True", "SLURM_GPUS_ON_NODE": "8"}, NONE, 0, "cpu"),
    ({"ACCELERATE_TORCH_DEVICE": "cpu"}, EIGHT, 0, "cpu"),
    ({"ACCELERATE_TORCH_DEVICE": "cuda"}, EIGHT, 2, "cuda:2"),
    ({"ACCELERATE_TORCH_DEVICE": "cuda:6"}, EIGHT, 2, "cuda:6"),
    ({"ACCELERATE_TORCH_DEVICE": "cuda:8"}, EIGHT, 0, "ACCELERATE_TORCH_DEVICE=cuda:8"),
    ({"SLURM_GPUS_ON_NODE": "0"}, NONE, 0, "cpu"),
    ({"SLURM_GPUS_ON_NODE": "8"}, NONE, 0, "SLURM_GPUS_ON_NODE=8"),
    ({"SLURM_JOB_GPUS": "0"}, NONE, 0, "SLURM_JOB_GPUS=0"),
    ({"SLURM_STEP_GPUS": "0,1"}, NONE, 1, "SLURM_STEP_GPUS=0,1"),
    ({"CUDA_VISIBLE_DEVICES": "0"}, NONE, 0, "CUDA_VISIBLE_DEVICES=0"),
    ({"CUDA_VISIBLE_DEVICES": "GPU-1a2b"}, NONE, 0, "CUDA_VISIBLE_DEVICES=GPU-1a2b"),
]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate leaves its arguments in the environment, which jobs inherit."""
    for name in ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", *ALLOTTED):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("environment, visible, local_rank, expected", TABLE)
def test_the_device(environment: dict[str, str], visible: Visible, local_rank: int, expected: str) -> None:
    if "=" not in expected:
        assert choose(environment, visible, World(0, 8, 0, local_rank)) == expected
        return
    with pytest.raises(UserError) as refused:
        choose(environment, visible, World(0, 8, 0, local_rank))
    assert expected in str(refused.value) and "\n" not in str(refused.value)
    if not visible.count:
        assert visible.why in str(refused.value) and "ACCELERATE_USE_CPU=true" in str(refused.value)


@pytest.mark.parametrize(
    "cuda, error, said",
    [
        (None, "", "is built without CUDA: install a torch that is built with it"),
        (
            "13.0",
            "Found no NVIDIA driver on your system. Please",
            "says: Found no NVIDIA driver on your system:",
        ),
        (
            "13.0",
            "No CUDA GPUs are available",
            "says: No CUDA GPUs are available: load a driver for CUDA 13.0",
        ),
    ],
)
def test_why_none_is_usable(cuda: str | None, error: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "init", init)
    found = Visible.here()
    assert found.count == 0 and said in found.why


def gpus(nodes: int, each: int) -> list[Device]:
    return [
        Device(rank, f"n{rank // each}", f"cuda:{rank % each}", "H100", f"GPU-{rank}")
        for rank in range(nodes * each)
    ]


def test_all_devices_in_a_few_words() -> None:
    two, many = gpus(2, 2), gpus(128, 8)
    assert described(gpus(1, 1)) == "cuda:0 H100"
    assert described(two) == "n0, n1: cuda:0-1 H100"
    assert described(many) == "128 nodes, n0 to n127: cuda:0-7 H100"
    assert described([*many[:-1], replace(many[-1], name="A100")]).endswith("; n127: cuda:0-7 H100 A100")
    assert (
        described([replace(rank, device="cuda:0") for rank in gpus(1, 4)]) == "4 x cuda:0, each its own H100"
    )
    assert described([Device(0, "n0", "cpu"), Device(1, "n0", "cpu")]) == "cpu"
    assert described([Device(0, "n0", "cpu"), Device(1, "n1", "cpu")]) == "n0, n1: cpu"


def test_ranks_with_a_gpu_each_are_taken() -> None:
    """Also where each sees but one, and where two nodes' uuids are the same."""
    assert refusal(gpus(2, 4)) == ""
    assert refusal([replace(rank, device="cuda:0") for rank in gpus(1, 8)]) == ""
    assert refusal([Device(rank, "n0", "cpu") for rank in range(3)]) == ""
    assert refusal([replace(rank, uuid="GPU") for rank in gpus(4, 1)]) == ""


@given(st.integers(1, 4), st.integers(2, 8), st.data())
def test_two_ranks_on_one_gpu_are_named(nodes: int, each: int, data: st.DataObject) -> None:
    ranks = gpus(nodes, each)
    first, second = sorted(data.draw(st.lists(st.integers(0, each - 1), min_size=2, max_size=2, unique=True)))
    ranks[second] = replace(ranks[second], uuid=ranks[first].uuid)
    assert refusal(ranks).startswith(f"rank {first} on n0 and rank {second} are both on one GPU")


@dataclass(frozen=True)
class Torch:
    """What each rank's torch says: the uuids of the GPUs that it sees, and the job's variables."""

    uuids: tuple[tuple[str, ...], ...]
    variables: dict[str, str]

    def __call__(self, rank: int) -> None:
        seen = self.uuids[rank]
        os.environ.update(self.variables)

        def card(device: Any) -> SimpleNamespace:
            number = torch.device(device).index if isinstance(device, str) else device
            return SimpleNamespace(name="H100", uuid=seen[number], total_memory=2**36, major=9, minor=0)

        why = "" if seen else "torch is built without CUDA: install one with it"
        setattr(devices.Visible, "here", lambda: Visible(len(seen), why))  # noqa: B010
        setattr(torch.cuda, "get_device_properties", card)  # noqa: B010


def refused(shards: Path, folder: Path, fault: Callable[[int], None], size: int) -> str:
    """The only line of a command that these devices end, with 2; it is in the status too."""
    words = jobs.small(shards, folder / "run", "vanilla", "--control.timeout", "60")
    job = jobs.start(words, folder / "log", size, fault)
    assert job.wait(40) == [2] * size, job.output
    (line,) = job.output.splitlines()
    found = jobs.status(folder / "run")
    assert found["state"] == "failed" and line == f"chexdist: {found['cause']}"
    return str(found["cause"])


SLURM = {"SLURM_GPUS_ON_NODE": "2"}


@pytest.mark.parametrize("size", [1, 2])
def test_gpus_that_no_rank_can_use(size: int, shards: Path, tmp_path: Path) -> None:
    """Not trained on the CPU without a message."""
    said = refused(shards, tmp_path, Torch(((), ()), SLURM), size)
    assert "SLURM_GPUS_ON_NODE=2" in said and "without CUDA" in said and "ACCELERATE_USE_CPU=true" in said
    assert said.startswith(f"rank 0 on {platform.node()}: " if size > 1 else "this job has GPUs")


@pytest.mark.parametrize("variables", [SLURM, {}], ids=["allotted", "unsaid"])
def test_one_rank_without_among_good_ones(variables: dict[str, str], shards: Path, tmp_path: Path) -> None:
    said = refused(shards, tmp_path, Torch((("a", "b"), (), ("a", "b")), variables), 3)
    assert said.startswith(f"rank 1 on {platform.node()}") and "without CUDA" in said


def test_two_ranks_on_one_gpu(shards: Path, tmp_path: Path) -> None:
    """Three ranks of a node with two."""
    said = refused(shards, tmp_path, Torch((("a", "b"),) * 3, SLURM), 3)
    assert said.startswith(f"rank 0 on {platform.node()} and rank 2 are both on one GPU (H100, a;")


def test_the_cpu_on_purpose(shards: Path, tmp_path: Path) -> None:
    """In a job with GPUs, and the first line says so."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--train.images", "16")
    fault = Torch((("a", "b"),) * 2, {**SLURM, "ACCELERATE_USE_CPU": "true"})
    job = jobs.run(words, tmp_path / "log", 2, fault)
    assert "ranks: 2 (cpu, threads: " in job.output


@pytest.fixture
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `use` changes for all of a process is as before afterwards."""
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, matmul.fp32_precision
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    conv.fp32_precision, matmul.fp32_precision = before
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_a_gpu_computes_in_float32_and_the_same_bits_again(
    arithmetic: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    use("cpu", World(0, 1, 0, 0))
    assert not torch.are_deterministic_algorithms_enabled()
    use("cuda:0", World(0, 1, 0, 0))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_an_evaluation_computes_as_training_does(arithmetic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator whose convolutions take TF32 would draw other images than while it was trained."""
    seen = []

    def measure(options: object, plan: object, device: torch.device) -> None:
        seen.append((str(device), torch.backends.cudnn.conv.fp32_precision))
        raise UserError("that is enough")

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(devices, "choose", lambda *_: "cuda:0")
    monkeypatch.setattr(evaluate, "_of_run", measure)
    assert main(["evaluate", "run"]) == 2 and seen == [("cuda:0", "ieee")]
    assert torch.are_deterministic_algorithms_enabled()


def test_one_visible_gpu_is_used_by_a_high_local_rank(
    arithmetic: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate would give DDP LOCAL_RANK as its device, unless it is told to give none."""
    used: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setenv("ACCELERATE_BYPASS_DEVICE_MAP", "false")
    use("cuda:3", World(3, 8, 0, 3))
    assert os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] == "false"
    use(choose({"CUDA_VISIBLE_DEVICES": "5"}, ONE, World(5, 8, 0, 5)), World(5, 8, 0, 5))
    assert used == ["cuda:3", "cuda:0"] and os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] == "true"
