"""launch/torchrun/elastic.sh resumes by itself with the nodes that there are."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import psutil
import pytest
from helpers import jobs

pytestmark = pytest.mark.slow
RENDEZVOUS = "join_timeout=300,last_call_timeout=3"
IMAGES = 12_000
"""Enough for a node to come back while the other trains."""

Node = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def node(shards: Path, tmp_path: Path) -> Iterator[Node]:
    """`node(name)` starts a launcher, as a node of a job would; its output goes to the file of that name."""
    asked = {"NODES": "1:2", "HOST": f"127.0.0.1:{jobs.free_port()}", "PROCESSES": "1", "RESTARTS": "3"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **asked, "RDZV": RENDEZVOUS, "PATH": path}
    script = resources.files("chexdist.launch") / "torchrun" / "elastic.sh"
    more = ["--train.images", str(IMAGES), "--eval.every", "0", "--control.timeout", "60"]
    command = ["bash", str(script), *jobs.small(shards, tmp_path / "run", "vanilla", *more)]
    with ExitStack() as end:

        def start(name: str) -> subprocess.Popen[bytes]:
            with (tmp_path / name).open("wb") as log:
                agent = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            end.callback(lose, agent)
            return agent

        yield start


def lose(agent: subprocess.Popen[bytes]) -> None:
    """A node goes down: `kill -9` for the launcher and its ranks."""
    if agent.poll() is None:
        for process in [psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)]:
            process.kill()
        agent.wait()


def test_a_node_is_lost_and_comes_back(node: Node, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def until(condition: Callable[[], bool], seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and first.poll() is None, said("first")
            time.sleep(0.05)

    def said(name: str) -> str:
        return (tmp_path / name).read_text()

    def world_size() -> int:
        described = run / "provenance.json"
        return int(json.loads(described.read_text())["machine"]["world_size"]) if described.exists() else 0

    first = node("first")
    until(lambda: bool(psutil.Process(first.pid).net_connections()))  # it is the one with the store
    second = node("second")
    until(lambda: world_size() == 2 and len(list(run.glob("checkpoints/*"))) >= 2)
    lose(second)
    until(lambda: world_size() == 1)
    back = node("back")
    until(lambda: world_size() == 2)
    assert [first.wait(300), back.wait(60)] == [0, 0], said("first") + said("back")
    output = said("first")
    assert output.count("lost another rank: rank 1 on ") == 1
    assert output.count("world_size changed, so rounding will differ") == 2
    found = jobs.status(run)
    assert (found["state"], found["images"]) == ("done", IMAGES)
