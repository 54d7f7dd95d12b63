"""On a real Slurm that gives CPUs and memory by request, through the lines of README and docs/slurm.md."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import jobs
from helpers.cluster import Cluster, until
from helpers.slurm_jobs import HERE, TRAIN, Submit, on_cpus, sbatch_options, tiny

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
ROOT = HERE.parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "slurm.md"


@pytest.fixture
def setup(slurm: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A script for CHEXDIST_SETUP: finds these sources, and puts a program before each command, as a
    container would, that writes them to `commands`.
    """
    exports = {**on_cpus(slurm), "CHEXDIST_PROCESSES_PER_NODE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    exports["CHEXDIST_CONTAINER"] = f"bash {tmp_path}/inside"
    (tmp_path / "inside").write_text(f'echo "$@" >> {tmp_path}/commands\nexec "$@"\n')
    script = tmp_path / "setup.sh"
    script.write_text("".join(f"export {name}={value!r}\n" for name, value in exports.items()))
    yield script


def test_readmes_line_from_an_empty_environment(
    submit: Submit, shards: Path, setup: Path, tmp_path: Path
) -> None:
    asked = sbatch_options(README)
    assert sbatch_options(PAGE) == asked
    options = f"{asked} --export NONE,CHEXDIST_SETUP={setup}"
    job = submit(TRAIN, tiny(shards, tmp_path / "run"), options=options)
    assert job.until_over() == "COMPLETED 0", job.log()
    assert job.field("TRES").startswith("cpu=64,mem=256G,node=2")
    assert "2 processes on node[1-2], CPUs of a node: 32, rendezvous node1:" in job.log()
    assert "network settings: GLOO_SOCKET_IFNAME=lo" in job.log()
    assert "Slurm gave this job" not in job.log()
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["machine"]["world_size"] == 2
    commands = [line.split(" -")[0] for line in (tmp_path / "commands").read_text().splitlines()]
    assert commands[0].startswith("chexdist train")
    assert sorted(commands[1:]) == ["accelerate launch"] * 2 + ["python"] * 2


def test_one_cpu_for_eight_gpus_is_said(submit: Submit, shards: Path, tmp_path: Path) -> None:
    """The line without what it asks for by GPU; a rank here has a thread and two loader processes."""
    asked = sbatch_options(README).replace("--cpus-per-gpu 4 --mem-per-gpu 16G ", "")
    words = tiny(shards, tmp_path / "run", "--data.workers", "2")
    job = submit(TRAIN, words, options=asked, CHEXDIST_PROCESSES_PER_NODE="1")
    assert job.until_over() == "COMPLETED 0", job.log()
    assert job.field("TRES").startswith("cpu=2,mem=200M,node=2")
    assert (
        "chexdist: Slurm gave this job 1 CPUs on node1 (and too few on 1 more), where 1 x 3 threads and "
        "loader processes now share them: give sbatch --cpus-per-gpu 3"
    ) in job.log()


def test_what_is_wrong_is_said_before_the_nodes_start(
    slurm: Cluster, submit: Submit, shards: Path, tmp_path: Path
) -> None:
    """A batch too small for README's 16 ranks; no environment; parts of nodes; an array in one directory."""
    words, asked = tiny(shards, tmp_path / "run"), sbatch_options(README)
    said = {
        "batch": (asked, words),
        "nothing": (f"{asked} --export NONE", words),
        "parts": (f"{asked} --output {tmp_path}/log-parts : --nodes 1", words),
        "array": ("--array=1-2 --nodes 1", words),
        "no-array": (asked, [*words, "--train.seed", "%a"]),
    }
    ended = {}
    for name, (options, each) in said.items():
        job = submit(TRAIN, each, options=f"--output {tmp_path}/log-{name} {options}")
        until(lambda job=job: job.field("JobState") == "FAILED", 60, job.log)  # type: ignore[misc]
        ended[name] = (job.field("ExitCode"), (tmp_path / f"log-{name}").read_text().splitlines())
    assert [code for code, _ in ended.values()] == ["2:0", "127:0", "2:0", "2:0", "2:0"], ended
    (line,) = ended["batch"][1]
    assert line.startswith(
        "chexdist: 16 ranks, but train.batch 16 has 8 groups of train.group 2: a rank needs"
    )
    assert "chexdist: command not found" in ended["nothing"][1][0]
    assert "--export NONE,CHEXDIST_SETUP=FILE" in ended["nothing"][1][-1]
    assert "training is one world: submit without ':'" in ended["parts"][1][0]
    for name in ("array", "no-array"):
        assert "--train.seed %a --run.dir RUN-%a" in ended[name][1][0]
    assert not (tmp_path / "run").exists()


def test_an_array_of_three_seeds(slurm: Cluster, submit: Submit, shards: Path, tmp_path: Path) -> None:
    """The last task, whose number alone would mean all three, is stopped early, and no other."""
    words = tiny(shards, tmp_path / "run%a", "--train.seed", "%a")
    options = f"{sbatch_options(PAGE, 2)} --output {tmp_path}/log"
    job = submit(TRAIN, words, held="4", options=options, HELD_TASK="3")
    assert job.number.isdecimal()
    tasks = [job.task(number) for number in (1, 2, 3)]
    until((tmp_path / "3-0-0").exists, 200, job.log)
    slurm.run("scancel", "--batch", "--signal=USR1", tasks[2].number)
    assert [task.until_over() for task in tasks] == ["COMPLETED 0"] * 3, job.log()
    assert [task.field("Restarts") for task in tasks] == ["0", "0", "1"]
    for number in (1, 2, 3):
        run = tmp_path / f"run{number}"
        assert jobs.status(run)["state"] == "done"
        assert f"seed: {number}\n" in (run / "config.yaml").read_text()


def test_a_preemption(
    slurm: Cluster, submit: Submit, shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Another job takes all nodes, first while the ranks start; then training resumes where it was."""
    run = tmp_path / "run"
    job = submit(TRAIN, tiny(shards, run), held="starting,4")
    job.until_held(0)
    slurm.run("scancel", "--batch", "--signal=USR1", job.number)
    job.until_held(1)
    assert "stopped early (before training began): requeued" in job.log()
    urgent = "--partition urgent --nodes 3 --exclusive --output /dev/null --wrap true"
    slurm.run("sbatch", *urgent.split())
    assert job.until_over() == "COMPLETED 0", job.log()
    assert job.field("Restarts") == "2" and "Slurm ends this job" in job.log()
    assert "resuming from images-96" in job.log()
    jobs.same_result(run, undisturbed)


def test_a_lost_node(slurm: Cluster, submit: Submit, shards: Path, undisturbed: Path, tmp_path: Path) -> None:
    """All that runs on it is killed at once; the job resumes with the third node, with the same result."""
    run = tmp_path / "run"
    job = submit(TRAIN, tiny(shards, run), held="4")
    assert job.until_held(0) == ["node1", "node2"]
    try:
        slurm.lose_node("node2")
        (tmp_path / "release").touch()
        assert job.until_over() == "COMPLETED 0", job.log()
    finally:
        slurm.start_node("node2")
        until(slurm.all_idle, 60, slurm.logs)
    assert job.field("Restarts") == "1", job.log()
    assert "lost another rank: rank 1 on node2" in job.log()
    nodes = [json.loads((run / "heartbeats" / f"rank-{rank}.json").read_text())["node"] for rank in (0, 1)]
    assert nodes == ["node1", "node3"]
    jobs.same_result(run, undisturbed)
