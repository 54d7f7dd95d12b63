"""One run directory is one run: of one job at a time, with the settings and the shards that it began with."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
from helpers import jobs
from helpers.faults import STEP, Signal, Waits

from chexdist.__main__ import main
from chexdist.run import directory
from chexdist.run.directory import RunDirectory
from shards.files import replace_file

BEGUN = ["--train.n_critic", "2", "--penalty.weight", "5"]


@pytest.fixture
def begun(undisturbed: Callable[..., Path]) -> Path:
    """A run that has ended, with checkpoints at 144 and 192 images and the best. Resume a copy of it."""
    return undisturbed("wgan-gp", 1, *BEGUN)


CHANGED = {
    "train.seed": ("1", "train.seed was 0, is 1"),
    "train.batch": ("8", "train.batch was 16, is 8"),
    "train.group": ("4", "train.group was 2, is 4"),
    "train.precision": ("bf16", "train.precision was no, is bf16"),
    "train.n_critic": ("3", "train.n_critic was 2, is 3"),
    "optim.critic.lr": ("1.0e-5", "optim.critic.lr was 0.0004, is 1e-05"),
    "penalty.weight": ("1", "penalty.weight was 5.0, is 1.0"),
    "penalty.every": ("64", "penalty.every was 32, is 64"),
    "model.width": ("8", "model.width was 4, is 8"),
    "loss.name": ("hinge", "loss.name was wasserstein, is hinge"),
    "augment.name": ("translate", "augment.name was translate-color, is translate"),
    "ema.halflife": ("100", "ema.halflife was 5000.0, is 100.0"),
    "data.window": ("2", "data.window was 0, is 2"),
}


@pytest.mark.parametrize("key", CHANGED)
def test_a_changed_setting_is_refused_with_the_difference(
    key: str, begun: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, difference = CHANGED[key]
    assert main(jobs.small(shards, begun, "wgan-gp", *BEGUN, f"--{key}", value, "--dry-run")) == 2
    line = capsys.readouterr().err
    assert difference in line and "another run.dir" in line and line.count("\n") == 1
    others = [name for name in CHANGED if name != key and f"{name} was" in line]
    assert others == []


def test_other_shards_are_refused(
    begun: Path, other_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(jobs.small(other_shards, begun, "wgan-gp", *BEGUN, "--dry-run")) == 2
    line = capsys.readouterr().err
    assert "other shards" in line and str(other_shards) in line and line.count("\n") == 1


def copy_of(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def test_what_is_free_may_change(begun: Path, shards: Path, tmp_path: Path) -> None:
    """More images, other intervals, loader processes, accumulation, and the shards in another folder."""
    run, moved = copy_of(begun, tmp_path / "run"), copy_of(shards, tmp_path / "moved")
    free = "--train.images 240 --train.accumulate 2 --eval.every 16 --eval.samples 80"
    free += " --checkpoint.every 16 --checkpoint.keep 1"
    free += " --checkpoint.best none"
    more = [*free.split(), "--data.workers", "2", "--data.memory", "0", "--control.every", "5"]
    job = jobs.run(jobs.small(moved, run, "wgan-gp", *BEGUN, *more), tmp_path / "log")
    assert "resuming from images-192" in job.output
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["images-240"]
    evaluated = {line["images"] for line in jobs.metrics(run) if line["name"] == "kid_x1000"}
    assert evaluated == {0, 96, 192, 208, 224, 240}


def test_settings_are_compared_with_the_checkpoint_that_is_used(
    begun: Path, shards: Path, tmp_path: Path
) -> None:
    """The newest is damaged, so the one before is resumed; that one began with another seed all the same."""
    run = copy_of(begun, tmp_path / "run")
    (run / "checkpoints/images-192/state.json").write_text("{")
    job = jobs.start(jobs.small(shards, run, "wgan-gp", *BEGUN, "--train.seed", "1"), tmp_path / "log")
    assert job.wait() == [2], job.output
    assert "train.seed was 0, is 1" in job.output


@pytest.mark.parametrize("content", ["[]", "null", '{"settings": [], "manifest": ""}', "\0"])
def test_a_damaged_state_is_no_traceback(content: str, begun: Path, shards: Path, tmp_path: Path) -> None:
    """What is in a checkpoint's last file may be anything; the checkpoint before it is resumed."""
    run = copy_of(begun, tmp_path / "run")
    (run / "checkpoints/images-192/state.json").write_text(content)
    assert main([*jobs.small(shards, run, "wgan-gp", *BEGUN), "--dry-run"]) == 0


def test_a_damaged_checkpoint_is_passed_over_by_the_run(begun: Path, shards: Path, tmp_path: Path) -> None:
    """The same weights come out, a line says why, and what an interrupted save left is gone."""
    run = copy_of(begun, tmp_path / "run")
    damaged = run / "checkpoints/images-192/generator.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    (run / "checkpoints/.partial-images-176").mkdir()
    output = jobs.run(jobs.small(shards, run, "wgan-gp", *BEGUN), tmp_path / "log").output
    passed = r"^chexdist: checkpoint \S*images-192 is damaged: generator\.safetensors .* passed over$"
    assert re.search(passed, output, re.MULTILINE) and "resuming from images-144" in output
    jobs.same_result(run, begun)


def test_logs_are_cut_back_to_the_checkpoint(begun: Path, shards: Path, tmp_path: Path) -> None:
    """What was measured and drawn after it, by a job that was killed, is measured and drawn again, once."""
    run = copy_of(begun, tmp_path / "run")
    (run / "samples/images-500.png").write_bytes(b"later")
    (run / "draws/images-500.safetensors").write_bytes(b"later")
    late = {**jobs.metrics(run)[-1], "images": 500, "time": 0.0}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(late) + "\n" + json.dumps(late)[:40])
    for record in ("ranks.jsonl", "fetched.jsonl"):
        with (run / record).open("a") as file:
            file.write('{"whole": 1}\n{"ti')
    jobs.run(jobs.small(shards, run, "wgan-gp", *BEGUN), tmp_path / "log")
    jobs.same_result(run, begun)
    for record in ("ranks.jsonl", "fetched.jsonl"):
        assert {"whole": 1} in [json.loads(line) for line in (run / record).read_text().splitlines()]
    assert not list(run.glob("*/images-500.*")) and max(m["images"] for m in jobs.metrics(run)) < 500


@pytest.mark.parametrize("content", ["", "[]", '{"state": "runn'])
def test_a_status_that_a_crash_has_damaged_is_written_anew(
    content: str, begun: Path, shards: Path, tmp_path: Path
) -> None:
    """As is a folder that a killed `generate --out RUN/pictures` left."""
    run = copy_of(begun, tmp_path / "run")
    shutil.rmtree(run / "checkpoints/images-192")
    (run / "status.json").write_text(content)
    (run / ".pictures.partial-123").mkdir()
    jobs.run(jobs.small(shards, run, "wgan-gp", *BEGUN), tmp_path / "log")
    jobs.same_result(run, begun)
    assert jobs.status(run)["state"] == "done"


def test_a_second_job_is_refused_while_the_first_lives(shards: Path, tmp_path: Path) -> None:
    """Every rank of the second ends at once; the first notices nothing; killed, it leaves no lock behind."""
    words = jobs.small(shards, tmp_path / "run", "vanilla")
    gate = Waits(STEP, 2, tmp_path / "gate")
    first = jobs.start(words, tmp_path / "first", 1, gate)
    first.until(gate.reached)
    second = jobs.start(words, tmp_path / "second", 2)
    assert second.wait(20) == [2, 2], second.output
    assert f"in use by a live job (process {first.ranks[0].pid} on " in second.output
    assert len(second.output.splitlines()) == 1
    assert jobs.status(tmp_path / "run")["state"] == "running"
    first.kill()
    jobs.run(words, tmp_path / "third")


def test_loader_processes_of_a_killed_job_don_t_hold_its_lock(shards: Path, tmp_path: Path) -> None:
    """`kill -9` hits the rank alone; its loaders notice seconds later. The next start must not be refused."""
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--data.workers", "2")
    first = jobs.start(words, tmp_path / "first", 1, Signal(STEP, 5))
    assert first.wait() == [-signal.SIGKILL], first.output
    jobs.run(words, tmp_path / "second")


def test_the_status_of_a_stop_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's thread writes it while the main thread is about to write that training continues."""
    run, in_the_middle, goes_on = RunDirectory(tmp_path / "run"), Event(), Event()
    run.lock()

    def slowly(path: Path, content: str) -> None:
        in_the_middle.set()
        goes_on.wait(10)
        replace_file(path, content)

    monkeypatch.setattr(directory, "replace_file", slowly)
    main_thread = Thread(target=run.status, args=("running", 32))
    main_thread.start()
    in_the_middle.wait(10)
    watcher = Thread(target=run.stopped)
    watcher.start()
    goes_on.set()
    main_thread.join(10)
    watcher.join(10)
    run.status("running", 48)
    assert jobs.status(run.path) == jobs.status(run.path) | {"state": "preempted", "images": 32}


def test_provenance_says_what_is_needed_to_repeat(begun: Path, shards: Path) -> None:
    found = json.loads((begun / "provenance.json").read_text())
    assert found["command"][1:] == jobs.small(shards, begun, "wgan-gp", *BEGUN)
    assert {"python", "torch", "accelerate", "webdataset", "chexdist"} <= found["versions"].keys()
    assert found["machine"]["world_size"] == 1 and found["machine"]["threads"] == 1
    assert found["cpus"] == os.cpu_count()
    again = ["train", "--config", str(begun / "config.yaml"), "--run.dir", "", "--dry-run"]
    assert main(again) == 0
