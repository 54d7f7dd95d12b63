"""A folder `shards` where `python -m chexdist` is started can hide the package of that name."""

import subprocess
import sys
from pathlib import Path


def test_it_is_said_in_a_line(tmp_path: Path) -> None:
    """With an editable install, as `make` does it, it is hidden; with another the command simply works."""
    (tmp_path / "shards").mkdir()
    command = [sys.executable, "-m", "chexdist", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        assert done.returncode == 2 and done.stderr.startswith(
            "chexdist: a folder `shards` in this directory"
        )
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    else:
        assert done.stdout.startswith("usage: ")


def test_a_program_is_told_by_an_error(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import chexdist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert not done.returncode or "ImportError: a folder `shards` in this directory hides" in done.stderr
