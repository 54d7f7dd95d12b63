"""The doctor under a launcher: ranks that are processes of their own, over gloo; only rank 0 prints."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.doctors import faults, free_port, run_ranks, words

from chexdist.__main__ import main
from chexdist.doctor.finding import Finding, Verdict
from chexdist.doctor.merge import merge


def test_two_ranks_that_see_each_other(shards: Path, tmp_path: Path) -> None:
    """One list, printed once, with what only a world has: the shared disk and the network."""
    given = words(shards, tmp_path / "run")
    codes, said = run_ranks(tmp_path, [given] * 2, [tmp_path] * 2)
    assert codes == [0, 0], said
    lines = said[0].splitlines()
    assert faults(lines) == [] and "Traceback" not in said[0]
    assert said[1] == ""
    for part in (
        "backend: gloo",
        "world: 2 ranks on 1 node",
        "2 groups of 8, for 2 ranks",
        f"what 2 ranks wrote under {tmp_path / 'run'} was seen by all",
        "network: 8 MiB summed over 2 ranks",
        "all ranks have the same packages and the same manifest",
        "(2 ranks on this node: ",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)
    assert not (tmp_path / "run").exists()


def test_three_faults_of_a_world(shards: Path, tmp_path: Path) -> None:
    """Nodes with disks of their own, other shards on one of them, and a batch of one group."""
    nodes = [tmp_path / "a", tmp_path / "b"]
    for node in nodes:
        shutil.copytree(shards, node / "shards")
    manifest = nodes[1] / "shards/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    given = words(Path("shards"), Path("run"), train__batch=8)
    codes, said = run_ranks(tmp_path, [given] * 2, nodes)
    assert codes == [1, 1], said
    found = faults(said[0].splitlines())
    assert said[1] == "" and len(found) == 3, found
    assert sum(line.startswith("batch: 2 ranks, but train.batch 8 has 1 groups") for line in found) == 1
    (blind,) = [line for line in found if line.startswith("run.dir: rank 1 on ")]
    assert "can't write under run as rank 0 made it: No such file or directory" in blind
    assert "cure: give --run.dir a directory on a disk that all nodes mount" in blind
    assert "was seen by all" not in said[0]
    (unlike,) = [line for line in found if line.startswith("other ranks: the ranks differ in manifest")]
    assert "cure: use one environment and one data.shards on all nodes" in unlike
    assert not any((node / "run").exists() for node in nodes)


def test_a_shard_damaged_on_one_node_only(shards: Path, tmp_path: Path) -> None:
    """Rank 0 says which rank found it; the exit code is everyone's."""
    nodes = [tmp_path / "a", tmp_path / "b"]
    for node in nodes:
        shutil.copytree(shards, node / "shards")
    (nodes[1] / "shards/train-000003.tar").unlink()
    codes, said = run_ranks(tmp_path, [words(Path("shards"), tmp_path / "run")] * 2, nodes)
    assert codes == [1, 1] and said[1] == "", said
    (fault,) = [line for line in faults(said[0].splitlines()) if line.startswith("shards: ")]
    assert fault.startswith("shards: rank 1 on ") and "train-000003.tar" in fault


def test_a_rank_that_does_not_come(shards: Path, tmp_path: Path) -> None:
    """What one rank can look at alone is looked at all the same."""
    port = free_port()
    launcher = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    given = words(shards, tmp_path / "run")
    codes, said = run_ranks(tmp_path, [given], [tmp_path], SECONDS_TO_FORM="5", **launcher)
    (fault,) = [line for line in faults(said[0].splitlines()) if line.startswith("backend: ")]
    assert codes == [1] and fault.startswith(
        f"backend: rank 0 of 2 could not form a group with the others at 127.0.0.1:{port}"
    )
    assert "cure: start all ranks at once" in fault and "ok           speed: " in said[0]


def test_a_rank_that_rank_0_does_not_reach_prints_for_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its packages are broken, so it can't join the others."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "webdataset", None)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("chexdist, rank 1 on ") and err.count("\n") == 1
    assert "webdataset can't be imported" in err


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What a launcher that is a process of its own starts from."""
    yield {**os.environ, "OMP_NUM_THREADS": "1"}


def test_accelerate_s_trap(bare_environment: dict[str, str]) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process without a message: the doctor has it."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launch, "-m", "chexdist", "doctor"],
        env=bare_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (fault,) = faults(done.stdout.splitlines())
    assert done.returncode == 1
    assert fault.startswith(
        "world: accelerate launch --num_processes asks for 2 processes, but this is a world of 1"
    )
    assert "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2" in fault


@pytest.mark.slow
def test_torchrun(bare_environment: dict[str, str], shards: Path, tmp_path: Path) -> None:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "chexdist",
    ]
    done = subprocess.run(
        [*launch, *words(shards, tmp_path / "run")],
        env=bare_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 ranks on 1 node") == 1 and done.stdout.count("0 faults, ") == 1


FINE = Finding("disk", Verdict.OK, "fine")


def bad(number: int) -> Finding:
    return Finding("disk", Verdict.FAULT, f"bad {number}", "mend it")


def test_what_many_ranks_say_stays_short() -> None:
    """The same from many ranks is one line; what differs is cut after a few."""
    same = merge([[FINE], *[[bad(0)]] * 999], ["a"] + ["b"] * 999)
    assert [str(finding) for finding in same] == [
        "ok           disk: fine",
        "fault        disk: ranks 1, 2, 3, 4 and 995 more on b: bad 0; cure: mend it",
    ]
    unlike = merge([[FINE], *([bad(rank)] for rank in range(1, 1000))], [f"n{rank}" for rank in range(1000)])
    assert len(unlike) == 6 and unlike[-1].verdict == Verdict.FAULT
    assert unlike[-1].text == "995 more like these on other ranks"


def test_what_rank_0_says_too_is_said_once() -> None:
    assert merge([[bad(0)], [bad(0)], [FINE]], ["a", "b", "c"]) == [bad(0)]
