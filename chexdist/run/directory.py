"""Writes what a run leaves on disk besides checkpoints (status, log, pictures), under a lock that rank 0
holds.
"""

import fcntl
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from chexdist.config.rules import shareable
from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.distributed.world import World
from chexdist.errors import UserError
from chexdist.metrics.value import Metric
from chexdist.run import draws, layout
from chexdist.run.full_disk import naming
from chexdist.run.provenance import provenance
from chexdist.run.writer import Writer
from shards.files import replace_file, replacing

LEFT_BY_A_KILL = (
    ".*.partial*",
    f"{layout.SAMPLES}/.*.partial*",
    f"{layout.FEATURES}/.*.partial*",
    f"{layout.TRAINING_DRAWS}/.*.partial*",
)

SECONDS_FOR_STATUS = 5
"""For which a rank waits for another that replaces the status; it takes milliseconds."""


class RunDirectory:
    """Rank 0's lock on a run directory, and the files in it. Every file that is replaced is replaced
    atomically; `writer` appends to the others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer()
        self._lock: int | None = None
        # the thread that watches for signals writes too, while this one continues
        self._writes_status, self._stopped = threading.RLock(), False
        self._found = self._status()
        self.health: dict[str, object] | None = _document(self._found).get("health")
        """The newest verdict on the training, which its status holds too; None: not judged yet."""

    def lock(self) -> None:
        """Make and lock the directory. The kernel drops the lock with its process, so a stale one can't stay.

        Raises:
            UserError: it can't be made, or a live job holds it.
        """
        file = self.path / layout.LOCK
        try:
            for folder in (layout.SAMPLES, layout.TRAINING_DRAWS):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"run.dir {self.path}: {error.filename}: {error.strerror}") from None
        try:
            # unlike flock's, this one is not inherited by forked workers
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = file.read_text().strip()
            raise UserError(
                f"run.dir {self.path} is in use by a live job ({holder}): stop that one, or choose another"
            ) from None
        except OSError as error:
            raise UserError(f"run.dir {self.path}: {error.strerror}") from None
        shutil.rmtree(self.path / layout.HEARTBEATS, ignore_errors=True)
        (self.path / layout.HEARTBEATS).mkdir(exist_ok=True)
        for pattern in LEFT_BY_A_KILL:
            for path in self.path.glob(pattern):
                if not path.is_dir():  # that of `generate --out RUN/...`, which removes its own
                    path.unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        holder = f"process {os.getpid()} on {platform.node()}\n"
        with naming(file, len(holder)):
            os.pwrite(self._lock, holder.encode(), 0)

    def describe(
        self, config: Config, manifest: Manifest, world: World, started_from: dict[str, str] | None
    ) -> None:
        """Write the configuration and the provenance: all that is needed to repeat the run."""
        self._replace(layout.CONFIG, yaml.safe_dump(shareable(config), sort_keys=False))
        facts = provenance(manifest, world) | ({"started_from": started_from} if started_from else {})
        self._replace(layout.PROVENANCE, json.dumps(facts, indent=1))

    def status(self, state: str, images: int, rank: int = 0, cause: str | None = None) -> None:
        """Replace the status, unless this process has said that it stops; state is running, done, preempted
        or failed.
        """
        document: dict[str, object] = {
            "state": state,
            "images": images,
            "rank": rank,
            "cause": cause,
            "time": time.time(),
        }
        if self.health is not None:
            document["health"] = self.health
        with self._writes_status:
            if not self._stopped:
                self._replace(layout.STATUS, json.dumps(document))

    def fail(self, rank: int, cause: str) -> None:
        """Replace the status by a failure that this rank reports, after as many images as it said before: the
        last checkpoint's.
        """
        with self._status_alone():
            before = _document(self._status())
            self.health = self.health or before.get("health")
            self.status("failed", before.get("images", 0), rank, cause)

    def saved(self, images: int) -> None:
        """Replace the status by a run that resumes from a checkpoint, unless a rank has recorded a failure,
        whose cause stays.
        """
        with self._status_alone():
            if not self.failed():
                self.status("running", images)

    @contextmanager
    def _status_alone(self) -> Iterator[None]:
        """No other rank replaces the status in between. One that stands still meanwhile, or a file system
        without such locks, is not waited for.
        """
        folder = os.open(self.path, os.O_RDONLY)
        try:
            end = time.monotonic() + SECONDS_FOR_STATUS
            while time.monotonic() < end:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    break
            yield
        finally:
            os.close(folder)

    def stopped(self) -> None:
        """Replace the status by an early stop, as `fail` does, where this process holds the lock. It is the
        last status that this process gives.
        """
        if self._lock is not None:
            with self._writes_status:
                self.status("preempted", _document(self._status()).get("images", 0))
                self._stopped = True

    def failed(self) -> bool:
        """Whether a rank has recorded since this start that the run failed."""
        now = self._status()
        return now != self._found and _document(now).get("state") == "failed"

    def has_log(self) -> bool:
        """Whether anything was logged yet."""
        return (self.path / layout.LOG).exists()

    def log(self, metrics: list[Metric]) -> None:
        """Append to the log, soon."""
        lines = "".join(json.dumps(each.to_dict()) + "\n" for each in metrics)
        self.writer.put(lambda: self._append(layout.LOG, lines))

    def write_draws(self, name: str, found: dict[tuple[str, str], Tensor]) -> None:
        """Write the bootstrap's draws of what was measured as the file called `name`."""
        path = layout.draws_of_training(self.path, name)
        with naming(path, sum(each.nbytes for each in found.values())):
            draws.write(path, found)

    def flush_log(self) -> None:
        """Put the log, as far as it was enqueued, on the disk: a checkpoint that outlives a power cut has its
        log beside it.
        """
        self.writer.flush()
        if self.has_log():
            with naming(self.path / layout.LOG, 0), (self.path / layout.LOG).open("a") as file:
                os.fsync(file.fileno())

    def append(self, name: str, line: dict[str, Any]) -> None:
        """Append to a record of what happened, which says so wherever the run was resumed; soon."""
        content = json.dumps({**line, "time": time.time()}) + "\n"
        self.writer.put(lambda: self._append(name, content))

    def truncate(self, images: int) -> None:
        """Forget what was logged and drawn after a checkpoint: resuming from it will write that again."""
        if self.has_log():
            kept = []
            for line in (self.path / layout.LOG).read_text().splitlines(keepends=True):
                try:
                    if json.loads(line)["images"] <= images:
                        kept.append(line)
                except ValueError:
                    break  # the line that a kill cut
            self._replace(layout.LOG, "".join(kept))
        for record in (layout.FETCHED, layout.RANKS):
            self._drop_cut_line(record)
        for files in (layout.samples(self.path), layout.training_draws(self.path)):
            for after, file in files.items():
                if after > images:
                    file.unlink()
        layout.animation(self.path).unlink(missing_ok=True)

    def draw_samples(self, name: str, images: Tensor) -> None:
        """Draw images [N, 1, S, S] in [-1, 1] as the picture called `name`, eight in a row."""
        path = layout.sample(self.path, name)
        with naming(path, images.numel()):
            draw_grid(path, images)

    def _append(self, name: str, content: str) -> None:
        path = self.path / name
        with naming(path, len(content)), path.open("a") as file:
            file.write(content)

    def _drop_cut_line(self, name: str) -> None:
        """Of a record, drop a last line that a kill or a full disk cut: the next would be appended to it."""
        path = self.path / name
        if path.exists():
            whole, newline, cut = path.read_text(errors="replace").rpartition("\n")
            if cut:
                self._replace(name, whole + newline)

    def _replace(self, name: str, content: str) -> None:
        path = self.path / name
        with naming(path, len(content.encode())):
            replace_file(path, content)

    def _status(self) -> str:
        path = self.path / layout.STATUS
        return path.read_text() if path.exists() else "{}"


def _document(status: str) -> dict[str, Any]:
    """A status as it was written; empty where a crash of the machine has damaged it."""
    try:
        found = json.loads(status)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def draw_grid(path: Path, images: Tensor) -> None:
    """Draw images [N, 1, S, S] in [-1, 1] as a PNG, eight in a row, atomically."""
    from torchvision.utils import save_image  # here, since it takes seconds to import and one rank draws

    with replacing(path) as temporary:
        grid = images.float().cpu()
        save_image(grid, temporary, format="PNG", nrow=8, normalize=True, value_range=(-1, 1))
