"""TensorBoard shows what `metrics.jsonl` holds, however the run was interrupted."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable
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
    # what was met about four batches is logged during the fifth
    job = jobs.start(words, tmp_path / "log", 2, Signal(STEP, 6))
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


def test_without_tensorboard_the_cure_is_told_before_anything_is_made(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    assert main(jobs.small(shards, tmp_path / "run", "vanilla", *TRACKED)) == 2
    line = capsys.readouterr().err
    assert "run.tracker tensorboard" in line and "pip install 'chexdist[tensorboard]'" in line
    assert line.count("\n") == 1 and not (tmp_path / "run").exists()
