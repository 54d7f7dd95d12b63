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

RANKS = """
echo $$ > "$1/cgroup.procs"
size=$2 port=$3
shift 3
[ $size = 1 ] && exec "$@"
export WORLD_SIZE=$size LOCAL_WORLD_SIZE=$size MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
for rank in $(seq 1 $((size - 1))); do RANK=$rank LOCAL_RANK=$rank "$@" & done
RANK=0 LOCAL_RANK=0 "$@"
code=$?
wait
exit $code
"""
"""A launcher that takes no memory, as Slurm's: in the group $1, $2 ranks of the words behind $3, a port."""


def trained(group: Path, limit: int, words: list[str], size: int) -> "subprocess.CompletedProcess[str]":
    """The command on `size` ranks in the group, with this limit."""
    (group / "memory.force_empty").write_text("0")  # file pages of the command before
    (group / "memory.limit_in_bytes").write_text(str(limit))
    place = ["sh", str(group), str(size), str(jobs.free_port())]
    command = ["sh", "-c", RANKS, *place, sys.executable, "-m", "chexdist", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def below_and_above(group: Path, shards: Path, run: Path, words: list[str], size: int = 1) -> tuple[int, int]:
    """Exit codes with 0.9 and 1.1 times the estimate, for a process that has not begun and so holds nothing;
    the first ends by a line, before anything is made, and in the second the kernel kills nothing.
    """
    config, manifest = load_config(words[2], words[3:]), read_manifest(str(shards))
    sizes = sizes_of(config, len(manifest.classes))
    needed = sum(memory.main_terms(config, manifest, sizes, size, size, on_gpu=False).values())

    short = trained(group, int(0.9 * needed), words, size)
    assert short.stdout == "", short.stderr
    assert size > 1 or not run.exists()
    assert "training takes an estimated" in short.stderr and short.stderr.count("\n") == 1

    enough = trained(group, int(1.1 * needed), words, size)
    assert jobs.status(run)["state"] == "done", enough.stderr
    assert "oom_kill 0" in (group / "memory.oom_control").read_text()
    return short.returncode, enough.returncode


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "held", lambda: 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_above_and_below_what_is_needed(group: Path, workers: int, shards: Path, tmp_path: Path) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    words += ["--data.workers", f"{workers}", "--train.images", "32"]
    assert below_and_above(group, shards, tmp_path / "run", words) == (2, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["vanilla", "wgan-clip", "wgan-gp", "dcgan", "residual"])
def test_the_shipped_sizes(group: Path, name: str, build_shards: Callable[..., Path], tmp_path: Path) -> None:
    shards = build_shards(96, 20, size=64, split="train=0.75,val=0.25")
    run = tmp_path / "run"
    words = ["train", "--config", name, "--data.shards", str(shards), "--run.dir", str(run)]
    words += ["--train.images", "256", "--eval.samples", "64"]
    assert below_and_above(group, shards, run, words) == (2, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["dcgan", "residual"])
def test_two_ranks(group: Path, name: str, build_shards: Callable[..., Path], tmp_path: Path) -> None:
    shards = build_shards(96, 20, size=64, split="train=0.75,val=0.25")
    words = ["train", "--config", name, "--data.shards", str(shards), "--run.dir", str(tmp_path / "run")]
    words += ["--train.images", "256", "--eval.samples", "64", "--data.workers", "0"]
    assert below_and_above(group, shards, tmp_path / "run", words, 2) == (2, 0)
