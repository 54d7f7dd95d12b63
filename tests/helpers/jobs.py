"""How tests start, kill and compare real training jobs: every rank is a process, as a launcher would make it.

Ranks are forked from a server that has imported the product and done nothing else, which saves the seconds
that importing torch takes; `true_command` is for the tests that want `python -m chexdist` itself.
"""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LATE_IMPORTS = ("torch._dynamo", "torch.distributed.tensor", "torchvision.utils")
"""What takes seconds to import, and is imported only when it is used."""
PRELOAD = ["chexdist.training.start", "chexdist.commands.train", *LATE_IMPORTS]
BATCH = 16
Fault = Callable[[int], None]
"""Called in a rank before the command starts, with the rank's number; it plants what will go wrong."""


def small(shards: Path, run: Path, config: str, *more: str) -> list[str]:
    """The words after `chexdist` that train a tiny network in 12 batches of 16, with 4 checkpoints."""
    settings = {
        "data.shards": shards,
        "data.workers": 0,
        "model.size": 32,
        "model.width": 4,
        "model.latent": 8,
        "train.batch": BATCH,
        "train.group": 2,
        "train.images": 12 * BATCH,
        "train.precision": "no",
        "checkpoint.every": 3 * BATCH,
        "eval.every": 6 * BATCH,
        "eval.samples": 64,
        "eval.extractor": "random-conv",
        "control.every": 2,
        "control.timeout": 60,
        "run.dir": run,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["train", "--config", config, *words, *more]


@dataclass
class Job:
    """The ranks of one start of a job."""

    log: Path
    ranks: list[BaseProcess] = field(default_factory=list)

    def wait(self, seconds: float = 90) -> list[int | None]:
        """Exit codes in rank order, -9 for killed; a rank that outlives `seconds` is killed and has None."""
        end = time.monotonic() + seconds
        codes: list[int | None] = []
        for rank in self.ranks:
            rank.join(max(0.0, end - time.monotonic()))
            codes.append(rank.exitcode)
        self.kill()
        return codes

    def kill(self) -> None:
        """`kill -9` for every rank that is left."""
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.join()

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is so; all ranks ending first, or time running out, is an error."""
        end = time.monotonic() + seconds
        alive = True
        while not condition():
            assert time.monotonic() < end and alive, self.output
            alive = any(rank.is_alive() for rank in self.ranks)  # once more after the last has ended
            time.sleep(0.002)

    @property
    def output(self) -> str:
        """What all ranks have printed."""
        return self.log.read_text()


_ports: set[int] = set()
started: list[Job] = []
"""Every job of this session, so that a test that fails leaves none running."""


def start(
    words: list[str], log: Path, size: int = 1, fault: Fault | None = None, only: int | None = None
) -> Job:
    """Start the command on `size` ranks, or on one of them alone. Everything printed is added to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    log.touch()
    port = free_port()
    job = Job(log)
    started.append(job)
    for rank in range(size) if only is None else [only]:
        process = context.Process(target=_rank, args=(words, log, rank, size, port, fault, dict(os.environ)))
        process.start()
        job.ranks.append(process)
    return job


def _rank(
    words: list[str],
    log: Path,
    rank: int,
    size: int,
    port: int,
    fault: Fault | None,
    environment: dict[str, str],
) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # until the command begins there is nobody to answer them
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    os.environ.clear()  # the server's, as it was when the first test started a job
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    from chexdist.__main__ import main
    from chexdist.training import stop_vote

    setattr(stop_vote, "SECONDS_BETWEEN", 0)  # noqa: B010  a vote with each batch: where it stops is known
    if fault is not None:
        fault(rank)
    sys.argv = ["chexdist", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = main(words)
    sys.stdout.flush()
    sys.exit(code)


def run(words: list[str], log: Path, size: int = 1, fault: Fault | None = None) -> Job:
    """Start the command and wait for its end, which must be exit code 0 on every rank."""
    job = start(words, log, size, fault)
    codes = job.wait()
    assert codes == [0] * size, job.output
    return job


def killed(words: list[str], log: Path, size: int, fault: Fault) -> None:
    """One start that ends in `kill -9`: of the rank that the fault hits, then of those that are left."""
    job = start(words, log, size, fault)
    job.until(lambda: any(rank.exitcode == -signal.SIGKILL for rank in job.ranks))
    job.kill()


def true_command(words: list[str], **environment: str) -> subprocess.Popen[str]:
    """`python -m chexdist` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "chexdist", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )


def free_port() -> int:
    """A port that nobody listens on, and that was not returned before: its world may still be starting."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        if port not in _ports:
            _ports.add(port)
            return port


def status(run_directory: Path) -> dict[str, Any]:
    """`status.json`"""
    return dict(json.loads((run_directory / "status.json").read_text()))


def metrics(run_directory: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl` without the times."""
    lines = [json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def tensors(checkpoint: Path) -> dict[str, bytes]:
    """The bytes of every tensor file of a checkpoint."""
    return {path.name: path.read_bytes() for path in sorted(checkpoint.glob("*.safetensors"))}


def newest(run_directory: Path) -> Path:
    """The checkpoint of the most images, by its name alone."""
    return max((run_directory / "checkpoints").glob("images-*"), key=lambda path: int(path.name[7:]))


def same_result(run_directory: Path, undisturbed: Path) -> None:
    """Assert that two runs are the same: every checkpoint's tensors bit for bit, metrics with their draws,
    sample sheets.
    """
    assert status(run_directory)["state"] == "done"
    saved, expected = (
        {path.name: tensors(path) for path in (root / "checkpoints").iterdir()}
        for root in (run_directory, undisturbed)
    )
    assert saved.keys() == expected.keys()
    for name, theirs in expected.items():
        assert len(theirs) == 5
        assert [file for file in theirs if saved[name].get(file) != theirs[file]] == [], name
    assert metrics(run_directory) == metrics(undisturbed)
    for folder in ("samples", "draws"):
        ours, theirs = (
            {path.name: path.read_bytes() for path in (root / folder).iterdir()}
            for root in (run_directory, undisturbed)
        )
        assert ours == theirs, folder
