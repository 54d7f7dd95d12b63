"""The device of these tests: GPUs where torch sees any, under `make test-gpu`; else the CPU, as a dry run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers import jobs


@pytest.fixture(scope="session")
def device() -> str:
    """`cuda` or `cpu`: what each rank that a test starts will choose."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=[1, 2, 4])
def size(request: pytest.FixtureRequest, device: str) -> int:
    """Ranks of a world, over NCCL on GPUs and over gloo on the CPU."""
    ranks = int(request.param)
    if device == "cuda" and ranks > torch.cuda.device_count():
        pytest.skip(f"{ranks} ranks need {ranks} GPUs, here are {torch.cuda.device_count()}")
    return ranks


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """72 training images in four shards, 24 for validation."""
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Whatever a test started ends with it."""
    yield
    while jobs.started:
        jobs.started.pop().kill()
