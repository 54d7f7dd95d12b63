"""An array of jobs on two real Slurm nodes builds the bytes of one build."""

import os
import shlex
import sys
from pathlib import Path

import pytest
from helpers.cluster import Cluster, until
from helpers.slurm_jobs import BUILD
from helpers.xray_files import class_folders, contents

from shards.__main__ import main

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_four_parts_of_an_array_and_their_merge(slurm: Cluster, tmp_path: Path) -> None:
    source, out = class_folders(tmp_path / "in", 40, 2), tmp_path / "out"
    words = [str(source), "--size", "32", "--samples-per-shard", "12", "--key-file", str(tmp_path / "key")]
    (tmp_path / "key").write_text("ab" * 32)
    assert main(["build", *words, "--out", str(tmp_path / "whole")]) == 0
    options = f"--parsable --array 1-4 --cpus-per-task 1 --time 10 --output {tmp_path}/log-%a"
    path = f"{Path(sys.executable).parent}:{slurm.environment['PATH']}"
    command = ["sbatch", *shlex.split(options), str(BUILD), *words, "--out", str(out)]
    number = slurm.run(*command, PATH=path, PYTHONPATH=os.getcwd()).strip()

    def logs() -> str:
        return "".join(file.read_text() for file in sorted(tmp_path.glob("log-*")))

    until(lambda: not slurm.run("squeue", "-h", "-j", number, "-t", "PD,R,CG").strip(), 400, logs)
    assert contents(out) == contents(tmp_path / "whole"), logs()
    assert all("20/20 images" in (tmp_path / f"log-{part}").read_text() for part in range(1, 5)), logs()
    assert "80 of 80 images are known from before" in logs()  # to the merge
    assert not (tmp_path / "out.parts").exists() and not (tmp_path / "out.work").exists()
