"""A cluster for the session, and jobs on it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.cluster import Cluster
from helpers.slurm_jobs import HERE, SlurmJob, Submit


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    """Two nodes; where there can be none, tests skip with the reason, or fail if Slurm was to be there."""
    asked = subprocess.run([HERE / "ready"], capture_output=True, text=True, check=False)
    if asked.returncode:
        reason = f"no Slurm: {asked.stdout}{asked.stderr}".strip()
        give_up = pytest.fail if os.environ.get("CHEXDIST_ALLOW_APT") == "1" else pytest.skip
        give_up(reason)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shards(build_shards: Callable[..., Path]) -> Path:
    """72 training images, 24 for validation."""
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture
def submit(slurm: Cluster, tmp_path: Path) -> Submit:
    """`submit(script, words, held="5,7", nodes=2)` -> the job, on CPUs, with its log in `tmp_path`."""

    def send(script: Path, words: list[str], held: str = "", nodes: int = 2) -> SlurmJob:
        options = f"--parsable --nodes {nodes} --cpus-per-task 1 --time 30 --output {tmp_path}/log"
        number = slurm.run(
            *["sbatch", *shlex.split(options), str(script), *words],
            PATH=f"{Path(sys.executable).parent}:{slurm.environment['PATH']}",
            ACCELERATE_USE_CPU="true",
            PYTHONPATH=str(HERE / "held"),
            HELD_AT=held,
            HELD_IN=str(tmp_path),
        )
        return SlurmJob(slurm, number.strip(), tmp_path)

    return send
