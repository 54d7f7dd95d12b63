"""A cluster for the session, and jobs on it."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import jobs
from helpers.cluster import Cluster
from helpers.slurm_jobs import HERE, SlurmJob, Submit, on_cpus, tiny


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


@pytest.fixture(scope="session")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same run without Slurm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    jobs.run(["train", *tiny(shards, folder / "run")], folder / "log", 2)
    yield folder / "run"
    jobs.started.clear()


@pytest.fixture
def submit(slurm: Cluster, tmp_path: Path) -> Submit:
    """`submit(script, words, held="5,7", nodes=2)` -> the job, on CPUs, with its log in `tmp_path`; `options`
    are more of sbatch's, and what else is named is a variable."""

    def send(
        script: Path,
        words: list[str],
        held: str = "",
        nodes: int = 2,
        options: str = "--cpus-per-task 1 --time 30",
        **more: str,
    ) -> SlurmJob:
        slurm_words = shlex.split(f"--parsable --nodes {nodes} --output {tmp_path}/log {options}")
        number = slurm.run(
            *["sbatch", *slurm_words, str(script), *words],
            **on_cpus(slurm),
            HELD_AT=held,
            HELD_IN=str(tmp_path),
            **more,
        )
        return SlurmJob(slurm, number.strip(), tmp_path)

    return send
