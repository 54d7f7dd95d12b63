"""Writes what a run leaves on disk besides checkpoints (status, metrics.jsonl, grids), under a lock that rank 0 holds."""

import fcntl
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from chexdist.config.address import without_secrets
from chexdist.config.rules import shareable
from chexdist.config.tree import Config
from chexdist.distributed import heartbeat
from chexdist.distributed.world import World
from chexdist.errors import UserError
from chexdist.metrics.value import Metric

PACKAGES = ("chexdist", "torch", "torchvision", "accelerate", "webdataset", "numpy", "safetensors")


def machine(world: World) -> dict[str, Any]:
    """What rounding depends on: bitwise equality is promised between two starts that agree on all of it."""
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine()
    )
    return {
        "device": device,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "world_size": world.size,
    }


class RunDirectory:
    """Rank 0's hold on the run directory. Every file that is replaced is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._found = self._status()

    def take(self) -> None:
        """Make and lock the directory. The kernel drops the lock with its process, so a stale one can't stay.

        Raises:
            UserError: it can't be made, or a live job holds it.
        """
        try:
            for folder in ("samples", heartbeat.FOLDER):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.lockf(
                self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # unlike flock, not inherited by forked workers
        except (BlockingIOError, PermissionError):
            holder = (self.path / "lock").read_text().strip()
            raise UserError(
                f"run.dir {self.path} is in use by a live job ({holder}): stop that one, or choose another"
            ) from None
        except OSError as error:
            raise UserError(f"run.dir {self.path}: {error.strerror}") from None
        for left in (
            ".*.partial*",
            "samples/.*.partial*",
            f"{heartbeat.FOLDER}/*",
            f"{heartbeat.FOLDER}/.*.partial",
        ):
            for path in self.path.glob(left):
                path.unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)

    def describe(self, config: Config, manifest_digest: str, world: World) -> None:
        """Write `config.yaml` and `provenance.json`: all that is needed to repeat the run."""
        self._replace("config.yaml", yaml.safe_dump(shareable(config), sort_keys=False))
        provenance = {
            "command": [without_secrets(word) for word in sys.argv],
            "commit": _commit(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "machine": machine(world),
            "cpus": os.cpu_count(),
            "node": platform.node(),
            "manifest": manifest_digest,
            "started": time.time(),
        }
        self._replace("provenance.json", json.dumps(provenance, indent=1))

    def status(self, state: str, images: int, rank: int = 0, cause: str | None = None) -> None:
        """Replace `status.json`; state is running, done, preempted or failed."""
        document = {"state": state, "images": images, "rank": rank, "cause": cause, "time": time.time()}
        self._replace("status.json", json.dumps(document))

    def fail(self, rank: int, cause: str) -> None:
        """Replace `status.json` by a failure that this rank tells of, after as many images as it said before: the last checkpoint's."""
        self.status("failed", json.loads(self._status()).get("images", 0), rank, cause)

    def failed(self) -> bool:
        """Whether a rank has recorded since this start that the run failed."""
        now = self._status()
        return now != self._found and json.loads(now)["state"] == "failed"

    def log(self, metrics: list[Metric]) -> None:
        """Append to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps(metric.to_dict()) + "\n" for metric in metrics)

    def flush_log(self) -> None:
        """Put `metrics.jsonl` on the disk: a checkpoint that outlives a power cut has its log beside it."""
        if (self.path / "metrics.jsonl").exists():
            with (self.path / "metrics.jsonl").open("a") as file:
                os.fsync(file.fileno())

    def fetched(self, line: dict[str, Any]) -> None:
        """Append to `fetched.jsonl`, which tells what was, whatever the run went back to."""
        with (self.path / "fetched.jsonl").open("a") as file:
            file.write(json.dumps({**line, "time": time.time()}) + "\n")

    def cut_back(self, images: int) -> None:
        """Forget what was logged and drawn after a checkpoint: going on from it will write that again."""
        log = self.path / "metrics.jsonl"
        if log.exists():
            kept = []
            for line in log.read_text().splitlines(keepends=True):
                try:
                    if json.loads(line)["images"] <= images:
                        kept.append(line)
                except ValueError:
                    break  # the line that a kill cut
            self._replace("metrics.jsonl", "".join(kept))
        for grid in (self.path / "samples").glob("images-*.png"):
            if int(grid.stem.removeprefix("images-")) > images:
                grid.unlink()

    def grid(self, name: str, images: Tensor) -> None:
        """Draw images [N, 1, S, S] in [-1, 1] as `samples/NAME.png`, eight in a row."""
        draw_grid(self.path / "samples" / f"{name}.png", images)

    def _status(self) -> str:
        path = self.path / "status.json"
        return path.read_text() if path.exists() else "{}"

    def _replace(self, name: str, text: str) -> None:
        partial = (
            self.path / f".{name}.partial-{os.getpid()}"
        )  # a rank that fails by itself writes its status too
        partial.write_text(text)
        partial.replace(self.path / name)


def draw_grid(path: Path, images: Tensor) -> None:
    """Draw images [N, 1, S, S] in [-1, 1] as a PNG, eight in a row, atomically."""
    from torchvision.utils import save_image  # here, since it takes seconds to import and one rank draws

    partial = path.with_name(f".{path.stem}.partial.png")
    save_image(images.float().cpu(), partial, nrow=8, normalize=True, value_range=(-1, 1))
    partial.replace(path)


def _commit() -> str | None:
    """The commit of the source tree, when it is one."""
    here = Path(__file__).parent
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None
