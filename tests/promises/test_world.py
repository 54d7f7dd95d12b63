"""The world got is the world asked for, or the run is refused before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chexdist.distributed.world import World, asked_world_size
from chexdist.errors import UserError

ACCELERATE = ["/usr/bin/python3", "/venv/bin/accelerate", "launch"]
AS_MODULE = ["python", "-m", "accelerate.commands.launch"]
TRAIN = ["-m", "chexdist", "train"]


@pytest.mark.parametrize(
    ("environment", "launcher", "asked"),
    [
        ({}, [], None),
        ({}, ["bash", "-c", "chexdist train"], None),
        ({}, ["python", "train.py", "--num_processes", "2"], None),
        ({}, [*ACCELERATE, *TRAIN], None),
        ({}, [*ACCELERATE, "--num_processes", "2", *TRAIN], 2),
        ({}, [*ACCELERATE, "--num_processes=3", *TRAIN], 3),
        ({}, [*ACCELERATE, "--num-processes", "4", *TRAIN], 4),
        ({}, [*ACCELERATE, "--cpu", "--num_processes", "2", *TRAIN], 2),
        ({}, [*ACCELERATE, *TRAIN, "--num_processes", "2"], None),
        ({}, [*AS_MODULE, "--num_processes", "2", *TRAIN], 2),
        ({}, ["python", "/x/accelerate/commands/launch.py", "--num_processes", "5", *TRAIN], 5),
        ({"SLURM_NTASKS": "4"}, [], 4),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2"}, [], 2),
        ({"SLURM_NTASKS": "4", "RANK": "0"}, [], None),
        ({"CHEXDIST_WORLD_SIZE": "8", "SLURM_NTASKS": "4"}, [*ACCELERATE, "--num_processes", "2", *TRAIN], 8),
        ({"SLURM_NTASKS": "1"}, [*ACCELERATE, "--num_processes", "2", *TRAIN], 2),
    ],
)
def test_asked_world_size(environment: dict[str, str], launcher: list[str], asked: int | None) -> None:
    found, where = asked_world_size(environment, launcher)
    assert found == asked
    assert where or found is None, "an error names what asked"


def test_asked_by_the_default_configuration(tmp_path: Path) -> None:
    """What `accelerate config` has written counts, when the command line names no other."""
    folder = tmp_path / "accelerate"
    folder.mkdir()
    (folder / "default_config.yaml").write_text(
        yaml.safe_dump({"num_processes": 2, "distributed_type": "MULTI_CPU"})
    )
    assert asked_world_size({"HF_HOME": str(tmp_path)}, [*ACCELERATE, *TRAIN])[0] == 2
    assert asked_world_size({"HF_HOME": str(tmp_path / "none")}, [*ACCELERATE, *TRAIN])[0] is None


@pytest.mark.parametrize("spelling", ["--config_file", "--config-file"])
def test_asked_by_a_configuration_file(spelling: str, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"num_processes": 2, "use_cpu": True}))
    assert asked_world_size({}, [*ACCELERATE, spelling, str(path), *TRAIN])[0] == 2
    assert asked_world_size({}, [*ACCELERATE, spelling, str(path), "--num_processes", "3", *TRAIN])[0] == 3
    assert asked_world_size({}, [*ACCELERATE, spelling, str(tmp_path / "none.yaml"), *TRAIN])[0] is None


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World(0, 1, 0, 0)),
        ({"LOCAL_RANK": "3"}, World(0, 1, 0, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "1"}, World(5, 8, 1, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "SLURM_NODEID": "2"}, World(5, 8, 2, 1)),
    ],
)
def test_detect(environment: dict[str, str], world: World) -> None:
    assert World.detect(environment) == world


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "one", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
        {"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
    ],
)
def test_half_a_world_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UserError):
        World.detect(environment)


def test_accelerate_cpu_of_two_is_refused(tmp_path: Path) -> None:
    """`--cpu --num_processes 2` starts one process without a message (accelerate 1.15)."""
    launch = [Path(sys.executable).with_name("accelerate"), "launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run(
        [*launch, "-m", "chexdist", "train", "--config", "wgan-gp", "--run.dir", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if line.startswith("chexdist:")]
    assert done.returncode != 0 and len(ours) == 1
    assert "asks for 2 processes, but this is a world of 1" in ours[0] and "--multi_gpu" in ours[0]
    assert not (tmp_path / "run").exists()
