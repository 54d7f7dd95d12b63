"""How tests call the doctor: in this process, or as ranks that are processes of their own."""

import multiprocessing
import os
import random
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from chexdist.__main__ import main

QUICK = {"model.width": 4, "model.latent": 8, "data.workers": 1}
PRELOAD = [
    "chexdist.doctor.examine",
    "chexdist.training.trainer",
    "chexdist.commands.doctor",
    "torch._dynamo",
]
"""The last is what torch loads with its first optimizer."""


def words(shards: Path, run: Path, config: str = "wgan-gp", **more: object) -> list[str]:
    """`chexdist doctor` on a tiny network; `more` are settings, with __ for the dot."""
    settings = {"data.shards": shards, "run.dir": run, "model.size": 32, **QUICK}
    settings |= {key.replace("__", "."): value for key, value in more.items()}
    given = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return ["doctor", "--config", config, *given]


class Patient:
    """`examine(words)` -> (exit code, lines on stdout), in this process and without importing torchvision."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, given: list[str]) -> tuple[int, list[str]]:
        code = main(given)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        assert [line for line in err.splitlines() if not line.startswith("doctor: ")] == []
        return code, out.splitlines()


def faults(lines: list[str]) -> list[str]:
    return [line.removeprefix("fault").strip() for line in lines if line.startswith("fault ")]


def free_port() -> str:
    """One that the kernel gives to nobody who asks for any, so that it is still free when a rank takes it."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return str(port)


def run_ranks(
    folder: Path, given: list[list[str]], directories: list[Path], **environment: str
) -> tuple[list[int | None], list[str]]:
    """Start a rank for each list of words, each in its own directory; exit codes and what each printed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()} if len(given) > 1 else {}
    size, logs = len(given), [folder / f"rank-{rank}.log" for rank in range(len(given))]
    ranks = [
        context.Process(
            target=_rank,
            args=(given[rank], logs[rank], directories[rank], rank, size, {**environment, **master}),
        )
        for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
        rank.kill()
    return [rank.exitcode for rank in ranks], [log.read_text() for log in logs]


def _rank(
    given: list[str], log: Path, directory: Path, rank: int, size: int, environment: dict[str, str]
) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(directory)
    os.environ.update(environment)
    if size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    from chexdist.doctor import examine, peers, speed
    from chexdist.training import precision

    patch = pytest.MonkeyPatch()  # which refuses a name that is not there
    patch.setattr(peers, "SECONDS_TO_FORM", int(environment.get("SECONDS_TO_FORM", 120)))
    patch.setattr(precision, "_seconds", lambda *_: 1.0)
    patch.setattr(precision, "remembered_gain", lambda _: 1.0)
    patch.setattr(examine, "try_torchvision", lambda: lambda note: None)
    patch.setattr(speed, "SECONDS", 0)
    code = main(given)
    sys.stdout.flush()
    sys.exit(code)
