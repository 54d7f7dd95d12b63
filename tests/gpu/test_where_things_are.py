"""What is on the device and what is not: tensors, batches, collectives, the switches of its arithmetic."""

from pathlib import Path

import pytest
from helpers import jobs
from helpers.cases import full_case, moving_case
from helpers.on_device import Watched, arithmetic, places_of_tensors
from helpers.worlds import run_world


def test_everything_that_is_trained(size: int, device: str, shards: Path) -> None:
    """Networks, average, moments and step counts, sums of losses, latents."""
    for rank in run_world(size, places_of_tensors, shards, [full_case(), moving_case()]):
        for found in rank:
            assert len(found) == 7 and all(kinds == {device} for kinds in found.values()), found


def test_float32_is_float32_and_the_same_bits_again(size: int, device: str) -> None:
    """On a GPU no TF32 and algorithms without a race; each rank of a node has its own GPU, over NCCL."""
    gpu = device == "cuda"
    for rank, found in enumerate(run_world(size, arithmetic)):
        assert found["device"] == device and found["current"] == (rank if gpu else None)
        assert found["backend"] == ("" if size == 1 else "nccl" if gpu else "gloo")
        assert found["deterministic"] is gpu
        assert found["cublas"] == (":4096:8" if gpu else "")
        if gpu:
            assert found["convolutions"] == found["products"] == "ieee"


@pytest.mark.parametrize("size", [1, 2], indirect=True)
def test_batches_and_collectives(size: int, device: str, shards: Path, tmp_path: Path) -> None:
    """In a whole training: only a GPU's batches are pinned; the group of the gradients sums tensors on the
    device, and all else goes over gloo from the CPU."""
    watched = Watched(tmp_path / "seen")
    watched.directory.mkdir()
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--data.workers", "1")
    job = jobs.run(words, tmp_path / "log", size, watched)
    assert ("cuda:0" in job.output) == (device == "cuda")
    backend = "nccl" if device == "cuda" else "gloo"
    for rank in range(size):
        seen = watched.seen(rank)
        assert seen["images"] == [[device, device]] and seen["pinned"] == [device == "cuda"]
        of_gradients = [each[:3] for each in seen["collectives"] if each[3]]
        assert of_gradients == ([["all_reduce", device, backend]] if size > 1 else [])
        others = [each for each in seen["collectives"] if not each[3]]
        assert all(kind in ("cpu", "objects") and over == "gloo" for _, kind, over, _ in others), others
        assert bool(others) == (size > 1)
