"""TensorBoard and other trackers show what `metrics.jsonl` holds, however the run was interrupted."""

import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import jobs
from helpers.faults import STEP, Signal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from chexdist.__main__ import main
from chexdist.run.log import read_log

TRACKED = ["--run.tracker", "tensorboard"]
Points = dict[str, list[tuple[int, float, float]]]


def shown(viewer: EventAccumulator) -> Points:
    """What a viewer reads in the files: (images, value, time) of each metric, in its order."""
    viewer.Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in viewer.Scalars(tag)]
        for tag in viewer.Tags()["scalars"]
    }


def logged(run: Path) -> Points:
    """The same from `metrics.jsonl`; TensorBoard stores float32."""
    points: Points = defaultdict(list)
    for metric in read_log(run):
        points[metric.name].append((metric.images, float(np.float32(metric.value)), metric.time))
    return points


def viewer_of(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})


def test_a_killed_run_goes_on_in_tensorboard(shards: Path, tmp_path: Path) -> None:
    """Two ranks, killed after a checkpoint; then the events are the log's, also in an open viewer."""
    run = tmp_path / "run"
    words = jobs.small(shards, run, "wgan-gp", *TRACKED)
    viewer = viewer_of(run)
    # an evaluation comes after six batches, and waits for all that is logged
    job = jobs.start(words, tmp_path / "log", 2, Signal(STEP, 7))
    job.wait()
    before = shown(viewer)
    assert max(images for images, _, _ in before["loss/critic"]) > 3 * jobs.BATCH
    jobs.run(words, tmp_path / "log", 2)
    assert {"loss/critic", "loss/penalty", "loss/generator", "kid_x1000", "kid_x1000/real"} <= logged(
        run
    ).keys()
    assert shown(viewer_of(run)) == logged(run)
    assert shown(viewer) == logged(run)


def test_switched_on_late_it_shows_the_whole_run(
    undisturbed: Callable[..., Path], shards: Path, tmp_path: Path
) -> None:
    """The tracker is a free setting; switched off, it writes nothing."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed("vanilla", 1), run)
    assert not (run / "tensorboard").exists()
    jobs.run(jobs.small(shards, run, "vanilla", *TRACKED, "--train.images", "240"), tmp_path / "log")
    points = shown(viewer_of(run))
    assert points == logged(run)
    assert [images for images, _, _ in points["kid_x1000"]] == [0, 96, 192, 240]


@dataclass(frozen=True)
class StandIn:
    """In place of Accelerate's class for a tracker, one that writes what it receives to a file."""

    tracker: str
    file: Path
    fails_in: str = ""

    def __call__(self, rank: int) -> None:
        from accelerate import tracking
        from accelerate.utils import LoggerType

        from chexdist.training import preflight

        name_of, file, fails_in = self.tracker, self.file, self.fails_in

        class Writes(tracking.GeneralTracker):
            name, requires_logging_directory, main_process_only = name_of, False, True
            tracker = None

            def __init__(self, project: str, **settings: object) -> None:
                super().__init__()
                self._say({"project": project, **settings}, "start")

            def start(self) -> None:
                pass

            def _say(self, line: object, what: str) -> None:
                if what == fails_in:
                    raise ValueError("api_key not configured\nLog in first")
                with file.open("a") as open_file:
                    open_file.write(json.dumps(line) + "\n")

            def log(self, values: dict[str, float], step: int | None = None, **_: object) -> None:
                self._say([values, step], "log")

            def finish(self) -> None:
                self._say("finished", "finish")

        tracking.LOGGER_TYPE_TO_CLASS[self.tracker] = Writes
        tracking._available_trackers.append(LoggerType(self.tracker))
        setattr(preflight, "find_spec", lambda _: True)  # noqa: B010


@pytest.mark.parametrize(("tracker", "separator"), [("wandb", "/"), ("mlflow", ".")])
def test_another_tracker_gets_the_log(tracker: str, separator: str, shards: Path, tmp_path: Path) -> None:
    """Also of a second start, and is notified of the end."""
    run, received = tmp_path / "a run", tmp_path / "received"
    words = jobs.small(shards, run, "vanilla", "--run.tracker", tracker)
    for images in ("96", "192"):
        received.unlink(missing_ok=True)
        more = ["--train.images", images]
        jobs.run([*words, *more], tmp_path / "log", 2, StandIn(tracker, received))
        first, *lines, last = [json.loads(line) for line in received.read_text().splitlines()]
        assert first["project"] == "chexdist" and "a run" in first.values() and last == "finished"
        logs = [(name, value, step) for values, step in lines for name, value in values.items()]
        logged = [(m.name.replace("/", separator), m.value, m.images) for m in read_log(run)]
        assert logs == logged and len({name for name, _, _ in logs if "kid_x1000" in name}) > 1


@pytest.mark.parametrize("fails_in", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_dropped(
    fails_in: str, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--run.tracker", "wandb")
    job = jobs.run(words, tmp_path / "log", 1, StandIn("wandb", tmp_path / "received", fails_in))
    said = (
        "chexdist: run.tracker wandb: api_key not configured; training and metrics.jsonl continue without it"
    )
    assert job.output.splitlines().count(said) == 1 and "Traceback" not in job.output
    jobs.same_result(tmp_path / "run", undisturbed("vanilla", 1))


def test_without_tensorboard_the_cure_is_reported_before_anything_is_made(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    assert main(jobs.small(shards, tmp_path / "run", "vanilla", *TRACKED)) == 2
    line = capsys.readouterr().err
    assert "run.tracker tensorboard" in line and "pip install 'chexdist[tensorboard]'" in line
    assert line.count("\n") == 1 and not (tmp_path / "run").exists()
