"""Whatever a start writes into its run directory, on a full disk the file is named, with bytes needed and
free.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from chexdist.config.load import load_config
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.errors import WorkError
from chexdist.run import directory
from chexdist.run.directory import RunDirectory

FILES = (
    "lock",
    "config.yaml",
    "provenance.json",
    "status.json",
    "metrics.jsonl",
    "fetched.jsonl",
    "ranks.jsonl",
    "samples/real.png",
)


@pytest.mark.parametrize("file", FILES)
def test_the_file_is_named(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write of this file alone finds the disk full."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails_for_it(write: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(path: Path, *rest: object, **named: object) -> object:
            reads = named.get("mode") == "r"
            return (full if path == tmp_path / file and not reads else write)(path, *rest, **named)

        return maybe

    run = RunDirectory(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "metrics.jsonl").write_text('{"images": 0}\n')
    for owner, name in ((directory, "replace_file"), (directory, "draw_grid"), (Path, "open")):
        monkeypatch.setattr(owner, name, fails_for_it(getattr(owner, name)))
    if file == "lock":
        monkeypatch.setattr(os, "pwrite", full)
    config = load_config("vanilla", ["--data.shards", "shards", "--run.dir", str(tmp_path)])
    manifest = cast(Manifest, SimpleNamespace(digest="0" * 64, splits={"train": ()}))
    writes: dict[str, Callable[[], object]] = {
        "lock": run.lock,
        "config.yaml": lambda: run.describe(config, manifest, World(0, 1, 0, 0), None),
        "provenance.json": lambda: run.describe(config, manifest, World(0, 1, 0, 0), None),
        "status.json": lambda: run.status("running", 0),
        "metrics.jsonl": lambda: run.truncate(5),
        "fetched.jsonl": lambda: (run.append("fetched.jsonl", {"bytes": 1}), run.writer.flush()),
        "ranks.jsonl": lambda: (run.append("ranks.jsonl", {"batch_seconds": [1.0]}), run.writer.flush()),
        "samples/real.png": lambda: run.draw_samples("real", torch.zeros(1, 1, 8, 8)),
    }
    with pytest.raises(WorkError) as raised:
        writes[file]()
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / file}: No space left") and "bytes are needed" in said
    assert "are free in" in said
