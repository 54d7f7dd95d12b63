"""Each launch file of Accelerate's is one that it takes, and starts as many processes as its name says."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

FOLDER = resources.files("chexdist.launch") / "accelerate"
WORLDS = {
    "one-cpu-process": (1, 1, True),
    "two-cpu-processes": (2, 1, True),
    "one-gpu": (1, 1, False),
    "eight-gpus": (8, 1, False),
    "two-nodes-of-eight": (16, 2, False),
}
"""Processes, nodes and whether on the CPU, by the file's name."""


def test_every_file_is_known_here() -> None:
    assert {item.name for item in FOLDER.iterdir()} == {f"{name}.yaml" for name in WORLDS}


@pytest.mark.parametrize("name", WORLDS)
def test_accelerate_takes_the_file(name: str) -> None:
    """Every option is one of Accelerate's; precision is the configuration's alone."""
    with resources.as_file(FOLDER / f"{name}.yaml") as path:
        found = load_config_from_file(str(path))
        options = yaml.safe_load(path.read_text())
    assert options.keys() <= {field.name for field in fields(ClusterConfig)}
    assert (found.num_processes, found.num_machines, found.use_cpu) == WORLDS[name]
    assert found.mixed_precision == "no"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (world[0] > 2)) for name, world in WORLDS.items()]
)
def test_as_many_processes_start_as_the_file_says(
    name: str, build_shards: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` itself, with a dry run in each process; the files for GPUs start as many here."""
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    processes, nodes, _ = WORLDS[name]
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    dry_run = ["chexdist", "train", "--config", "vanilla", "--data.shards", str(shards), "--model.size", "32"]
    dry_run += ["--train.batch", "16", "--train.group", "1", "--dry-run"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    launchers = []
    with resources.as_file(FOLDER / f"{name}.yaml") as path:
        for node in range(nodes):
            launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
            launch += ["--main_process_port", port]
            if nodes > 1:
                launch += ["--main_process_ip", "127.0.0.1", "--machine_rank", str(node)]
            launchers.append(
                subprocess.Popen(
                    [*launch, "-m", *dry_run],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env={**os.environ, "ACCELERATE_USE_CPU": "true"},
                )
            )
        outputs = [launcher.communicate(timeout=300)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0] * nodes, outputs
    ranks = [line.split(":")[0] for line in outputs[0].splitlines() if line.startswith("rank ")]
    assert ranks == [f"rank {rank}" for rank in range(processes)]
    assert not any("rank 0:" in output for output in outputs[1:])
