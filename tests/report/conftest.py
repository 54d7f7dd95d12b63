"""Run directories as `train` leaves them, small, made without training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.run_files import grid, training_log

from chexdist.config.load import load_config


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """`make_run("runs/dcgan", "dcgan", final=600.0)` -> a finished run; `lines=None`: without a log."""

    def make(
        name: str = "dcgan",
        config: str = "dcgan",
        *settings: str,
        final: float = 600.0,
        images: int = 1000,
        lines: list[dict[str, Any]] | None | str = "all",
        status: dict[str, Any] | None = None,
    ) -> Path:
        run = tmp_path / name
        run.mkdir(parents=True)
        words = ["--data.shards=/home/jane/shards", f"--run.dir={run}", f"--train.images={images}", *settings]
        document = load_config(config, words).model_dump(mode="json")
        (run / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        state = {"state": "done", "images": images, "rank": 0, "cause": None, "time": 1.8e9}
        (run / "status.json").write_text(json.dumps(state | (status or {})))
        provenance = {
            "command": ["/home/jane/bin/chexdist", "train"],
            "commit": "c0ffee" * 6,
            "versions": {"python": "3.11.7", "torch": "2.15.0"},
            "machine": {"device": "x86_64", "threads": 1, "world_size": 1},
            "node": "ward-7.hospital.example",
            "manifest": "ab" * 32,
            "started": 1.8e9,
        }
        (run / "provenance.json").write_text(json.dumps(provenance))
        if lines == "all":
            lines = training_log(final, images)
        if lines is not None:
            assert not isinstance(lines, str)
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        seed = sum(name.encode())
        grid(run / "samples" / "images-0.png", seed)
        grid(run / "samples" / f"images-{images}.png", seed + 1)
        grid(run / "samples" / "real.png", 12345)
        return run

    return make
