"""Shards behind a URL: training, evaluation and audit give the numbers of local ones; a node fetches once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import jobs, shard_server
from helpers.shard_server import ShardServer

from chexdist.__main__ import main


@dataclass(frozen=True)
class ShortPauses:
    """Failed tries follow each other quickly."""

    def __call__(self, rank: int) -> None:
        from chexdist.data import remote

        remote.FIRST_PAUSE = 0.01


def words(server: ShardServer, run: Path, cache: Path, *more: str) -> list[str]:
    url = Path(server.url.replace("http://", ""))
    settings = ["--data.shards", f"http://user:hunter2@{url}/?token=s3cret", "--data.cache", str(cache)]
    return jobs.small(Path(), run, "wgan-gp", *settings, *more)


def fetched(run: Path) -> int:
    lines = [json.loads(line) for line in (run / "fetched.jsonl").read_text().splitlines()]
    assert all([*line["bytes"]] == ["0"] for line in lines)
    return sum(line["bytes"]["0"] for line in lines)


def test_two_ranks_of_three_workers(shards: Path, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    """Bit for bit the run of local shards, over a faulty server; with a full cache nothing is fetched."""
    files = {path.name: path.stat().st_size for path in shards.glob("*.tar")}
    with ShardServer(shards) as server:
        server.goes_wrong("train-000001.tar", shard_server.cut, shard_server.corrupt)
        server.goes_wrong("val-000000.tar", shard_server.short)
        again = {"train-000001.tar": 3, "val-000000.tar": 2}
        run = tmp_path / "run"
        job = words(server, run, tmp_path / "cache", "--data.workers", "3", "--data.memory", "0")
        jobs.run(job, tmp_path / "log", size=2, fault=ShortPauses())
        jobs.same_result(run, undisturbed("wgan-gp", 2))
        assert server.requests == {"manifest.json": 1, **dict.fromkeys(files, 1), **again}
        assert sum(files.values()) < fetched(run) <= sum(server.bytes[name] for name in files)
        server.requests.clear()
        jobs.run([*job, "--train.images", "256"], tmp_path / "log", size=2)
        assert server.requests == {"manifest.json": 1}
    kept = [*run.glob("*.yaml"), *run.glob("*.json*"), *run.glob("checkpoints/*/*.json"), tmp_path / "log"]
    assert len(kept) > 6
    for path in kept:
        assert "hunter2" not in path.read_text() and "s3cret" not in path.read_text(), path


def test_a_shard_that_can_not_be_had_ends_all_ranks(shards: Path, tmp_path: Path) -> None:
    with ShardServer(shards) as server:
        server.goes_wrong("train-000002.tar", *[shard_server.corrupt] * 999)
        job = jobs.start(
            words(server, tmp_path / "run", tmp_path / "cache", "--data.workers", "1"),
            tmp_path / "log",
            size=2,
            fault=ShortPauses(),
        )
        codes = job.wait()
    assert 0 not in codes and None not in codes
    assert jobs.status(tmp_path / "run")["state"] == "failed"
    assert f"{server.url}/train-000002.tar: 6 tries" in job.output
    assert "SHA-256 is not the manifest's" in job.output


@pytest.mark.parametrize("command", [pytest.param("evaluate", marks=pytest.mark.slow), "generate"])
def test_of_a_finished_run(
    command: str,
    shards: Path,
    undisturbed: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same files as with local shards."""
    run = undisturbed("wgan-gp", 1)
    monkeypatch.setattr("chexdist.data.cache.tempfile.gettempdir", lambda: str(tmp_path))

    def made(address: str, name: str) -> dict[str, bytes]:
        copy = tmp_path / name
        copy.symlink_to(run) if command == "generate" else copy.mkdir()
        if command == "evaluate":
            for part in ("config.yaml", "checkpoints"):
                (copy / part).symlink_to(run / part)
        more = {
            "evaluate": ["--samples", "64", "--pairs", "16"],
            "generate": ["--n", "4", "--out", f"{copy}-out"],
        }
        assert main([command, str(copy), "--shards", address, *more[command]]) == 0
        folder = copy / "evaluations" if command == "evaluate" else Path(f"{copy}-out")
        return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.suffix != ".json"} | {
            path.name: json.dumps(
                [{**metric, "time": 0} for metric in json.loads(path.read_text())["metrics"]]
            ).encode()
            for path in folder.rglob("evaluation.json")
        }

    with ShardServer(shards) as server:
        remote, local = made(server.url, "remote"), made(str(shards), "local")
        assert remote == local and remote
        assert max(server.requests.values()) == 1 and len(server.requests) > 2
