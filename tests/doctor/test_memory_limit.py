"""Training in a real control group: with a tenth more memory than the estimate it ends well, with a tenth
less it is refused.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import jobs

from chexdist.config.load import load_config
from chexdist.data.manifest import read_manifest
from chexdist.doctor import memory
from chexdist.doctor.sizes import sizes_of


def trained(group: Path, limit: int, words: list[str]) -> "subprocess.CompletedProcess[str]":
    """The command in the group, with this limit."""
    (group / "memory.force_empty").write_text("0")  # file pages of the command before
    (group / "memory.limit_in_bytes").write_text(str(limit))
    enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    command = ["sh", "-c", enter, "sh", sys.executable, "-m", "chexdist", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def check_above_and_below(group: Path, shards: Path, run: Path, words: list[str]) -> None:
    """Compare both with the estimate, for a process that has not begun and so holds nothing."""
    config, manifest = load_config(words[2], words[3:]), read_manifest(str(shards))
    sizes = sizes_of(config, len(manifest.classes))
    needed = sum(memory.main_terms(config, manifest, sizes, 1, 1, on_gpu=False).values())

    short = trained(group, int(0.9 * needed), words)
    assert short.returncode == 2 and short.stdout == "" and not run.exists(), short.stderr
    assert "training takes an estimated" in short.stderr and short.stderr.count("\n") == 1

    enough = trained(group, int(1.1 * needed), words)
    assert enough.returncode == 0 and jobs.status(run)["state"] == "done", enough.stderr
    assert "oom_kill 0" in (group / "memory.oom_control").read_text()


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "held", lambda: 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_above_and_below_what_is_needed(group: Path, workers: int, shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    words += ["--data.workers", f"{workers}", "--train.images", "32"]
    check_above_and_below(group, shards, tmp_path / "run", words)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["vanilla", "wgan-clip", "wgan-gp", "dcgan", "residual"])
def test_the_shipped_sizes(group: Path, name: str, build_shards: Callable[..., Path], tmp_path: Path) -> None:
    shards = build_shards(96, 20, size=64, split="train=0.75,val=0.25")
    run = tmp_path / "run"
    words = ["train", "--config", name, "--data.shards", str(shards), "--run.dir", str(run)]
    words += ["--train.images", "256", "--eval.samples", "64"]
    check_above_and_below(group, shards, run, words)
