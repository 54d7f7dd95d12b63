"""Decides what is said of a rank that no longer answers: every rank leaves who, where and how far it is on the shared disk.

On the disk, since that outlives a rank, its node, and rank 0 with its store. Clocks of nodes are not compared: a rank is alive while
its file changes.
"""

import json
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from chexdist.distributed.world import World

FOLDER = "heartbeats"
LOST = "lost another rank"
"""What a survivor's own file, and every message of one, begins with."""
SHOWN = 3


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself; `ended` is why it gave up."""

    rank: int
    node: str
    images: int
    doing: str
    time: float
    ended: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Beat | None":
        """None where there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


class Heartbeat:
    """This rank's file `heartbeats/rank-N.json`, written every few seconds until it ends. Alone, there is nobody to tell."""

    def __init__(self, run: Path, world: World) -> None:
        self.world, self.folder = world, run / FOLDER
        self.seconds = 2 + world.size / 100  # however many ranks, at most a hundred files a second
        self.images, self.doing = 0, "starting"
        self._ended: str | None = None
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        if world.size > 1:
            self._thread.start()

    def at(self, images: int, doing: str) -> None:
        """What the next beat says; at once, if it is something else than before."""
        changed = doing != self.doing
        self.images, self.doing = images, doing
        if changed:
            self._news.set()

    def end(self, why: str) -> None:
        """The last words."""
        self._ended = why
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def lost(self) -> str:
        """This rank gives up: which others left it waiting, as far as can be told. Takes as long as one of them may be silent."""
        self.end(LOST)
        before = self._others()
        end = time.monotonic() + 1.5 * self.seconds
        while not (failed := self._failed()) and time.monotonic() < end:
            time.sleep(0.2)
        if failed:
            return _listed([f"{_who(beat)} failed at image {beat.images}: {beat.ended}" for beat in failed])
        now = self._others()
        unseen = [f"rank {rank} was never seen" for rank, beat in now.items() if beat is None]
        silent = [
            f"{_who(beat)} was last seen at image {beat.images}, {beat.doing}, {time.time() - beat.time:.0f} s before"
            for rank, beat in now.items()
            if beat and not beat.ended and beat == before[rank]
        ]
        if unseen or silent:
            return _listed(unseen + silent)
        stuck = [
            f"{_who(beat)} runs at image {beat.images}, {beat.doing}, but does not answer"
            for beat in now.values()
            if beat and not beat.ended
        ]
        if stuck:
            return _listed(stuck)
        cut = [f"{_who(beat)} at image {beat.images}" for beat in now.values() if beat]
        return f"{_listed(cut)} gave up too: the network between them is cut, or too slow for control.timeout"

    def _failed(self) -> list[Beat]:
        return [beat for beat in self._others().values() if beat and beat.ended and beat.ended != LOST]

    def _others(self) -> dict[int, Beat | None]:
        ranks = [rank for rank in range(self.world.size) if rank != self.world.rank]
        return {rank: Beat.read(self._path(rank)) for rank in ranks}

    def _path(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.json"

    def _beat(self) -> None:
        while True:
            ended = self._ended
            self._write(ended)
            if ended is not None:
                return
            self._news.wait(self.seconds)
            self._news.clear()

    def _write(self, ended: str | None) -> None:
        beat = Beat(self.world.rank, platform.node(), self.images, self.doing, time.time(), ended)
        path = self._path(self.world.rank)
        partial = path.with_name(f".{path.name}.partial")
        with suppress(OSError):  # a full disk must not end a run for the sake of this
            partial.write_text(json.dumps(asdict(beat)))
            partial.replace(path)


def _who(beat: Beat) -> str:
    return f"rank {beat.rank} on {beat.node}"


def _listed(lines: list[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more
