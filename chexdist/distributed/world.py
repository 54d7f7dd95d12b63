"""Decides what the world is: rank, size, node; and refuses a world that is not the one that was asked for."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chexdist.errors import UserError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""By which a launcher says to a process who it is."""


@dataclass(frozen=True)
class World:
    """Who this process is among all. `local_rank` chooses a device and nothing else."""

    rank: int
    size: int
    node: int
    local_rank: int

    @property
    def ddp_device(self) -> int:
        """The number of the GPU that Accelerate gives DDP, however many GPUs the process sees."""
        return self.local_rank

    def gpu(self, visible: int) -> int:
        """The number of this rank's GPU among those that it sees; where each rank sees fewer than the node
        has ranks, as Slurm tasks do by --gpus-per-task, counted around.
        """
        return self.local_rank % visible

    @classmethod
    def detect(cls, environment: Mapping[str, str] = os.environ) -> "World":
        """The world that the launcher's variables describe; without them, a world of one.

        Raises:
            UserError: a variable is no number, or only some of them are set.
        """
        present = [name for name in VARIABLES if environment.get(name)]
        if not present or "RANK" not in present and "WORLD_SIZE" not in present:
            return cls(0, 1, 0, 0)
        try:
            rank, size, local_rank = (int(environment[name]) for name in VARIABLES)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"RANK, WORLD_SIZE and LOCAL_RANK must all be set, to numbers ({error}): start with a "
                f"launcher, or unset {' '.join(present)}"
            ) from None
        if not 0 <= rank < size:
            raise UserError(f"RANK {rank} is not below WORLD_SIZE {size}")
        return cls(
            rank, size, int(environment.get("GROUP_RANK") or environment.get("SLURM_NODEID") or 0), local_rank
        )

    @classmethod
    def asked(cls, environment: Mapping[str, str] = os.environ) -> "World":
        """The world that `detect` sees, or, where no launcher has started this process, rank 0 of
        CHEXDIST_WORLD_SIZE ranks: what is to be launched can be checked before that.
        """
        world, size = cls.detect(environment), _whole(environment.get("CHEXDIST_WORLD_SIZE"))
        return cls(0, size, 0, 0) if size and not environment.get("RANK") else world

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that decides, writes and prints."""
        return self.rank == 0


def check_asked_world(world: World) -> None:
    """Compare the world got with the one that the launcher's command line, its configuration or Slurm asks
    for.

    `accelerate launch --cpu --num_processes 2` (accelerate 1.15) starts one process silently; two tasks
    of `srun` without RANK start two trainings.

    Raises:
        UserError: with both numbers and the cure.
    """
    asked, where = asked_world_size(os.environ, launcher_arguments())
    if asked is not None and world.size != asked:
        raise UserError(
            f"{where} asks for {asked} processes, but this is a world of {world.size}. On CPUs use "
            f"`ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {asked} -m chexdist "
            "train ...` or torchrun"
        )


def launcher_arguments() -> list[str]:
    """The arguments of the parent's command line; none where the system does not say."""
    launcher = Path(f"/proc/{os.getppid()}/cmdline")
    return launcher.read_text(errors="replace").split("\0") if launcher.exists() else []


def accelerate_file(environment: Mapping[str, str], launcher: list[str]) -> Path | None:
    """The configuration that `accelerate launch` reads, whether or not it is there; None for another
    launcher.
    """
    options = _accelerate_options(launcher)
    return None if options is None else Path(_option(options, "config_file") or _default_file(environment))


def asked_world_size(environment: Mapping[str, str], launcher: list[str]) -> tuple[int | None, str]:
    """How many processes were asked for, and by what; None when nothing says.

    Args:
        environment: the process's variables.
        launcher: the arguments of the parent's command line.
    """
    if explicit := environment.get("CHEXDIST_WORLD_SIZE"):
        return _whole(explicit), "CHEXDIST_WORLD_SIZE"
    options = _accelerate_options(launcher)
    if options is not None:
        asked = _whole(_option(options, "num_processes"))
        if asked is not None:
            return asked, "accelerate launch --num_processes"
        path = Path(_option(options, "config_file") or _default_file(environment))
        return _from_file(path), f"Accelerate's configuration {path}"
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS")
    if tasks and "RANK" not in environment:
        return _whole(tasks), "Slurm's number of tasks"
    return None, ""


def _accelerate_options(words: list[str]) -> list[str] | None:
    """What stands between `accelerate launch` and the training command's own arguments; None for another
    launcher.
    """
    for place, word in enumerate(words):
        if re.search(
            r"(^|/)accelerate$|^accelerate\.commands\.launch$|/accelerate/commands/launch\.py$", word
        ):
            options = words[place + 1 :]
            end = next((index for index, option in enumerate(options) if option in ("-m", "--module")), None)
            return options[:end]
    return None


def _option(words: list[str], name: str) -> str | None:
    spelled = name.replace("_", "[-_]")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if match := re.fullmatch(f"--{spelled}(?:=(.*))?", word):
            return match.group(1) or following
    return None


def _default_file(environment: Mapping[str, str]) -> str:
    """Where `accelerate config` writes, and `accelerate launch` reads when it is given no file."""
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return f"{environment.get('HF_HOME') or f'{cache}/huggingface'}/accelerate/default_config.yaml"


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _from_file(path: Path) -> int | None:
    import yaml  # here, for the start of `chexdist --help`

    try:
        asked = yaml.safe_load(path.read_text())["num_processes"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return asked if isinstance(asked, int) else None
