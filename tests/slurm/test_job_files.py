"""Without a Slurm: the batch files are shell, and what they name exists."""

import argparse
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from chexdist.__main__ import parser
from shards.__main__ import _parser

FOLDER = resources.files("chexdist.launch") / "slurm"
FILES = sorted(item.name for item in FOLDER.iterdir())


def code(name: str) -> str:
    """Without comments, and with continued lines in one."""
    lines = [line for line in (FOLDER / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(lines).replace("\\\n", " ")


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each `chexdist` command."""
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def shard_commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each `chexdist-shards` command."""
    (found,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def test_all_are_here() -> None:
    assert FILES == ["build-shards.sbatch", "evaluate.sbatch", "train.sbatch"]


@pytest.mark.parametrize("name", FILES)
def test_it_is_shell(name: str) -> None:
    with resources.as_file(FOLDER / name) as path:
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_its_commands_and_their_options_exist(name: str) -> None:
    program, known_commands = (
        ("chexdist-shards", shard_commands()) if "shards" in name else ("chexdist", commands())
    )
    found = re.findall(rf"(?<!say \")\b{program} ([a-z]+)\b([^\n]*)", code(name))
    assert found
    for command, words in found:
        known = {option for action in known_commands[command]._actions for option in action.option_strings}
        assert set(re.findall(r"(?<= )--[\w.-]+", words)) <= known


def test_accelerate_takes_the_options_of_its_line() -> None:
    (line,) = re.findall(r"exec accelerate launch (.*?) -m chexdist train", code("train.sbatch"))
    known = {option for action in launch_command_parser()._actions for option in action.option_strings}
    used = set(re.findall(r"--\w+", line))
    assert {"--multi_gpu", "--num_processes", "--machine_rank", "--config_file"} <= used <= known


def test_the_launch_file_that_it_names_exists() -> None:
    (named,) = re.findall(r"\$CHEXDIST_LAUNCH_FILES/([\w./-]+)", code("train.sbatch"))
    assert (FOLDER / ".." / named).is_file()


def test_the_script_for_ready_is_shell() -> None:
    subprocess.run(["bash", "-n", Path(__file__).with_name("ready")], check=True)


STUBS = {
    "chexdist": "exit 0",
    "scontrol": "echo node1",
    "srun": 'echo \'{"state": "running", "cause": null}\' > "$RUN/status.json"; exit 1',
    "squeue": "echo RUNNING",
}


def test_ranks_that_were_killed_are_not_believed_to_run(tmp_path: Path) -> None:
    """The launchers have ended, and the status file that they left says running."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1"}
    search = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", str(FOLDER / "train.sbatch"), "--run.dir", str(tmp_path)],
        env={**os.environ, **slurm, "RUN": str(tmp_path), "PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "says running, but the ranks ended without a word: killed" in ended.stderr
