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
from shards.parser import parser as shards_parser

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
    actions = shards_parser()._actions
    (found,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
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
    (line,) = re.findall(r"accelerate launch (.*?) -m chexdist train", code("train.sbatch"))
    known = {option for action in launch_command_parser()._actions for option in action.option_strings}
    used = set(re.findall(r"--\w+", line))
    assert {"--multi_gpu", "--num_processes", "--machine_rank", "--config_file"} <= used <= known


def test_the_launch_file_that_it_names_exists() -> None:
    (named,) = re.findall(r"\$files/([\w./-]+)", code("train.sbatch"))
    assert (FOLDER / ".." / named).is_file()


def test_the_script_for_ready_is_shell() -> None:
    assert subprocess.run(["bash", "-n", Path(__file__).with_name("ready")], check=False).returncode == 0


STUBS = {
    "chexdist": "exit 0",
    "scontrol": 'echo node1; echo "$@" >> "$RUN/asked"',
    "srun": """
        if [[ " $* " == *" --dry-run"* ]]; then echo 0; exit; fi
        echo '{"state": "running", "cause": null}' > "$RUN/status.json"; exit 1
    """,
    "squeue": "echo RUNNING",
}


def start_with_killed_ranks(folder: Path, start: int) -> subprocess.CompletedProcess[str]:
    """One start of the job file under stubs: the launchers end, and leave a status that says running."""
    for name, body in STUBS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "status.json").unlink(missing_ok=True)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node1"}
    slurm |= {"SLURM_RESTART_COUNT": str(start), "CHEXDIST_REQUEUES": "2"}
    search = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(FOLDER / "train.sbatch"), "--run.dir", str(folder)],
        env={**os.environ, **slurm, "RUN": str(folder), "PATH": search},
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_ranks_are_tried_again_until_nothing_is_gained(tmp_path: Path) -> None:
    """They are not believed to run; a newer checkpoint, or another job, begins the count anew."""
    for start in (0, 1):
        ended = start_with_killed_ranks(tmp_path, start)
        assert ended.returncode == 0, ended.stderr
        assert "says running, but the ranks ended without a message: killed" in ended.stderr
        assert ended.stderr.endswith(": requeued\n")
    ended = start_with_killed_ranks(tmp_path, 2)
    assert ended.returncode == 1
    assert "no checkpoint is newer after 2 requeues" in ended.stderr.splitlines()[-1]
    saved = tmp_path / "checkpoints" / "images-9" / "state.json"
    saved.parent.mkdir(parents=True)
    saved.touch()
    assert [start_with_killed_ranks(tmp_path, start).returncode for start in (3, 4, 5, 0)] == [0, 0, 1, 0]
    assert (tmp_path / "asked").read_text().count("requeue 7") == 5
