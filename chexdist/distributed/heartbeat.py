"""Decides what is reported of a rank that no longer answers: every rank writes who, where and how far it is
to the shared disk.

On the disk, since that outlives a rank, its node, and rank 0 with its store. Clocks of nodes are not
compared: a rank is alive while its file changes."""

import json
import platform
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from chexdist.distributed.world import World
from shards.files import replace_file

LOST = "lost another rank"
"""Prefix of the reason that a rank gives when it ends only because another rank is gone."""
STOPPED = "asked to stop"
"""The reason of a rank that was asked to stop where ranks could not agree on it."""
SHOWN = 3


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself; `ended` is why it gave up, `told` what its backend said then."""

    rank: int
    node: str
    images: int
    doing: str
    time: float
    ended: str | None = None
    told: str = ""

    @classmethod
    def read(cls, path: Path) -> "Beat | None":
        """None where there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


class Heartbeat:
    """This rank's file `rank-N.json` in `folder`, written every few seconds until it ends; with one rank,
    none.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self.world, self.folder = world, folder
        self.seconds = 2 + world.size / 100  # however many ranks, at most a hundred files a second
        self.images, self.doing = 0, "starting"
        self._ended: str | None = None
        self._told = ""
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        if world.size > 1:
            self._thread.start()

    def at(self, images: int, doing: str) -> None:
        """Set what the next beat says; written at once if the rank now does something else."""
        changed = doing != self.doing
        self.images, self.doing = images, doing
        if changed:
            self._changed.set()

    def end(self, why: str) -> None:
        """Write the last beat, with the reason."""
        self._ended = why
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()

    def lost(self, told: str = "") -> str:
        """This rank gives up: which others left it waiting, as far as is known. Takes as long as one of them
        may be silent. `told` is what the backend told it, where that is a reason of the backend's own.
        """
        self._told = told
        self.end(LOST)
        before = self._others()
        end = time.monotonic() + 1.5 * self.seconds
        while not (failed := self._failed()) and time.monotonic() < end:
            time.sleep(0.2)
        if failed:
            return _listed([f"{_who(beat)} {_end(beat)}" for beat in failed])
        now = self._others()
        unseen = [f"rank {rank} was never seen" for rank, beat in now.items() if beat is None]
        silent = [
            f"{_who(beat)} was last seen at image {beat.images}, {beat.doing}, "
            f"{time.time() - beat.time:.0f} s before"
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
        gone = [beat for beat in now.values() if beat]
        if knowing := [f"at image {beat.images}, {beat.told}" for beat in gone if beat.told]:
            return _listed(knowing)
        cut = f"{_listed([f'{_who(beat)} at image {beat.images}' for beat in gone])} gave up too"
        return cut if told else f"{cut}: the network between them is cut, or too slow for control.timeout"

    def stopped(self) -> str:
        """Which other ranks ended as they were asked to; empty where there are none, or one failed."""
        ended = self._failed()
        return _listed([_who(beat) for beat in ended]) if {beat.ended for beat in ended} == {STOPPED} else ""

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
            self._changed.wait(self.seconds)
            self._changed.clear()

    def _write(self, ended: str | None) -> None:
        beat = Beat(self.world.rank, platform.node(), self.images, self.doing, time.time(), ended, self._told)
        with suppress(OSError):  # a full disk must not end a run for the sake of this
            replace_file(self._path(self.world.rank), json.dumps(asdict(beat)))


def _who(beat: Beat) -> str:
    return f"rank {beat.rank} on {beat.node}"


def _end(beat: Beat) -> str:
    how = "was asked to stop" if beat.ended == STOPPED else "failed"
    return f"{how} at image {beat.images}" + ("" if beat.ended == STOPPED else f": {beat.ended}")


def _listed(lines: list[str]) -> str:
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more
