"""A job on two real Slurm nodes is one world; stopped early, it saves, resumes and ends with the same."""

import json
from pathlib import Path

import pytest
from helpers import jobs
from helpers.cluster import Cluster
from helpers.slurm_jobs import EVALUATE, TRAIN, SlurmJob, Submit, tiny

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]


def stopped_at(run: Path, batches: int) -> None:
    assert jobs.newest(run).name == f"images-{16 * batches}"


def test_every_way_to_stop_early(
    slurm: Cluster, submit: Submit, shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """One after the other in the same job, each sent with both ranks in the middle of the run."""
    job, run = submit(TRAIN, tiny(shards, tmp_path / "run"), held="2,4,6"), tmp_path / "run"
    assert job.until_held(0) == ["node1", "node2"]
    slurm.run("scancel", "--batch", "--signal=USR1", job.number)
    job.until_held(1)
    stopped_at(run, 4)
    slurm.run("scancel", "--signal=TERM", job.number)
    job.until_held(2)
    stopped_at(run, 6)
    slurm.run("scontrol", "requeue", job.number)
    assert job.until_over() == "COMPLETED 0", job.log()
    assert "resuming from images-128" in job.log()
    assert job.field("Restarts") == "3"
    assert json.loads((run / "provenance.json").read_text())["machine"]["world_size"] == 2
    jobs.same_result(run, undisturbed)


def test_a_time_limit(
    slurm: Cluster, submit: Submit, shards: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The script's own early warning; the limit is lowered once the ranks are held, whenever that is."""
    job, run = submit(TRAIN, tiny(shards, tmp_path / "run"), held="4"), tmp_path / "run"
    job.until_held(0)
    hours, minutes, _ = (int(part) for part in job.field("RunTime").split(":"))
    slurm.run("scontrol", "update", f"JobId={job.number}", f"TimeLimit={60 * hours + minutes + 3}")
    job.until_restarted()
    slurm.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=30")
    stopped_at(run, 6)
    assert job.until_over() == "COMPLETED 0", job.log()
    assert job.field("Restarts") == "1" and "asked to stop early" in job.log()
    jobs.same_result(run, undisturbed)


def test_one_process_and_the_end_of_a_job(
    slurm: Cluster, submit: Submit, shards: Path, tmp_path: Path
) -> None:
    """It trains on after USR1, saves once more at `scancel`, and is not started again."""
    job, run = submit(TRAIN, tiny(shards, tmp_path / "run"), held="4,6", nodes=1), tmp_path / "run"
    job.until_held(0, ranks=1)
    slurm.run("scancel", "--batch", "--signal=USR1", job.number)
    job.until_held(1, ranks=1)
    stopped_at(run, 6)
    slurm.run("scancel", job.number)
    assert job.until_over().startswith("CANCELLED"), job.log()
    stopped_at(run, 8)
    assert jobs.status(run)["state"] == "preempted"
    assert job.field("Restarts") == "1"


def test_a_failed_run_is_not_requeued(submit: Submit, shards: Path, tmp_path: Path) -> None:
    job = submit(TRAIN, tiny(shards, tmp_path / "run", "--optim.critic.lr", "1e30"))
    assert job.until_over() == "FAILED 1", job.log()
    assert "failed: gradients or weights are not finite" in job.log().splitlines()[-1]


def test_a_mistake_is_one_line(submit: Submit, shards: Path, tmp_path: Path) -> None:
    job = submit(TRAIN, tiny(shards, tmp_path / "run", "--model.sise", "32"))
    assert job.until_over() == "FAILED 2"
    assert job.log().splitlines() == ["chexdist: model.sise: no such setting; the nearest is model.size"]


def test_evaluate(submit: Submit, shards: Path, undisturbed: Path) -> None:
    job: SlurmJob = submit(EVALUATE, [str(undisturbed), "--samples", "64", "--pairs", "16"], nodes=1)
    assert job.until_over() == "COMPLETED 0", job.log()
    assert (undisturbed / "report.html").stat().st_size > 1000
    assert list(undisturbed.glob("evaluations/*/evaluation.json"))
