"""A run is alive while its lock is held or a heartbeat is recent, whatever its status says."""

import os
import time
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import STEP, Waits

from chexdist.commands import demo
from chexdist.errors import WorkError
from chexdist.report.collect import collect
from chexdist.run.alive import SECONDS, is_alive


def test_a_killed_run_is_not_alive(shards: Path, tmp_path: Path) -> None:
    """One rank writes no heartbeat: the kernel knows who holds the lock, and dropped it with the process."""
    run, gate = tmp_path / "run", Waits(STEP, 5, tmp_path / "gate")
    job = jobs.start(jobs.small(shards, run, "vanilla"), tmp_path / "log", 1, gate)
    job.until(gate.reached)
    assert is_alive(run) and collect([str(run)])[0].state == "running"
    job.kill()
    assert jobs.status(run)["state"] == "running" and not is_alive(run)
    (found,) = collect([str(run)])
    assert found.state == "failed" and found.cause.startswith("not alive")


def test_the_demo_does_not_believe_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its launcher has ended: nobody can be running."""
    (tmp_path / "status.json").write_text('{"state": "running", "cause": null}')
    monkeypatch.setattr(demo, "_call", lambda *words, **variables: None)
    with pytest.raises(WorkError, match="ended without a message, as when they are killed"):
        demo._train("dcgan", tmp_path / "shards", tmp_path, 0)


def test_an_old_heartbeat_is_none(tmp_path: Path) -> None:
    """Of ranks on other nodes, whose lock this one may not see."""
    assert not is_alive(tmp_path)
    (tmp_path / "heartbeats").mkdir()
    beat = tmp_path / "heartbeats/rank-1.json"
    beat.write_text("{}")
    assert is_alive(tmp_path)
    old = time.time() - SECONDS - 1
    os.utime(beat, (old, old))
    assert not is_alive(tmp_path)
