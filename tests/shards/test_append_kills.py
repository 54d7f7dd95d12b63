"""An append that is killed at random moments: the set verifies each time, and ends with the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.xray_files import batch, contents

from shards.__main__ import main

PATTERN = ["--patient-pattern", "^([0-9]+)_"]
KILLS = 12


@pytest.mark.slow
def test_killed_appends_end_with_the_same_bytes(tmp_path: Path) -> None:
    source = batch(tmp_path / "in", range(30), 0)
    more = batch(tmp_path / "more", range(20, 120), 1)
    options = [*PATTERN, "--workers", "1"]
    size = ["--size", "64", "--samples-per-shard", "4"]
    assert main(["build", str(source), "--out", str(tmp_path / "set"), *options, *size]) == 0
    shutil.copytree(tmp_path / "set", tmp_path / "whole/set")
    shutil.copy(tmp_path / "set.key", tmp_path / "whole/set.key")
    began = time.monotonic()
    arguments = [sys.executable, "-m", "shards", "append"]
    done = subprocess.run([*arguments, tmp_path / "whole/set", more, *options], timeout=300, check=False)
    whole = time.monotonic() - began
    assert done.returncode == 0
    rng, killed = random.Random(time.time_ns()), 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [*arguments, tmp_path / "set", more, *options], start_new_session=True, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(rng.uniform(0, 1.2 * whole))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        assert main(["verify", str(tmp_path / "set")]) == 0
    assert main(["append", str(tmp_path / "set"), str(more), *options]) == 0
    assert killed and contents(tmp_path / "set") == contents(tmp_path / "whole/set")
    assert main(["verify", str(tmp_path / "set")]) == 0
    assert not (tmp_path / "set.work").exists()
