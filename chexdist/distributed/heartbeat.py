"""Decides what is reported of a rank that no longer answers: every rank writes who, where and how far it is
to the shared disk, and there leaves a mark when it gives up.

On the disk, since that outlives a rank, its node, and rank 0 with its store. Clocks of nodes are not
compared: a rank is alive while its file changes. A dead rank breaks the connections of its neighbours in the
ring alone, so their marks inform the rest: each rank looks for marks, and reads nobody's file until it gives
up; then REPORTERS do."""

import json
import os
import platform
import threading
import time
from collections.abc import Callable
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
REPORTERS = 8
"""So many ranks that lost another read what all others wrote, and say it; the rest name them."""
LONGEST = 5.0
"""The most seconds between two beats of a rank."""
WATCH = 2.0
"""Seconds between two looks for marks."""
SILENT = 1.5
"""Beats that a rank may miss before it counts as silent."""
GRACE = 2.0
"""Seconds after a mark is seen for which a rank may still find out by its own next collective."""


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself; `ended` is why it gave up, `reported` what its backend said then."""

    rank: int
    node: str
    images: int
    doing: str
    time: float
    ended: str | None = None
    reported: str = ""

    @classmethod
    def read(cls, path: Path) -> "Beat | None":
        """None where there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def seconds_between(ranks: int) -> float:
    """From one beat of a rank to its next in a world of so many."""
    return min(2 + ranks / 100, LONGEST)


def known_within(ranks: int) -> float:
    """Seconds from a rank's death, which breaks its connections, to the end of the last of the others."""
    reporting = WATCH / 2 if ranks > REPORTERS else 0
    return WATCH + GRACE + reporting + SILENT * seconds_between(ranks)


def _nothing() -> None:
    pass


class Heartbeat:
    """This rank's file `rank-N.json` in `folder`, written every few seconds until it ends, and its mark in
    `ended-START`, written then; with one rank, none.

    `left_behind`: called by a thread of its own once another rank has ended and this one does not come to
    know of it by itself, to end the process; not while `writes()`, after which it will.
    """

    def __init__(self, folder: Path, world: World, start: str = "") -> None:
        """`start`: the same on all ranks, and another with each start of a run."""
        self.world, self.folder, self._marks = world, folder, folder / f"ended-{start}"
        self.seconds = seconds_between(world.size)
        self.images, self.doing = 0, "starting"
        self.left_behind: Callable[[], None] = _nothing
        self.writes: Callable[[], bool] = lambda: False
        self.reports = True
        """Whether what `lost` says is more than which others report."""
        self._ended: str | None = None
        self._reported = ""
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
        """Write the last beat and the mark, with the reason."""
        self._ended = why
        self._changed.set()
        if threading.current_thread() is self._thread:
            self._write()
        elif self._thread.is_alive():
            self._thread.join()

    def lost(self, reported: str = "") -> str:
        """This rank gives up: which others left it waiting, as far as is known. Takes as long as one of them
        may be silent. `reported` is what this rank's backend says, where that is a reason of its own.
        """
        self._reported = reported
        self.end(LOST)
        if others := self._reporters():
            self.reports = False
            return f"ranks {', '.join(map(str, others))} say which"
        before = self._others()
        end = time.monotonic() + SILENT * self.seconds
        while not (failed := self._failed()) and time.monotonic() < end:
            time.sleep(0.2)
        if failed:
            return failed
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
        if knowing := [f"at image {beat.images}, {beat.reported}" for beat in gone if beat.reported]:
            return _listed(knowing)
        cut = f"{_listed([f'{_who(beat)} at image {beat.images}' for beat in gone])} gave up too"
        return cut if reported else f"{cut}: the network between them is cut, or too slow for control.timeout"

    def stopped(self) -> str:
        """Which other ranks ended as they were asked to; empty where there are none, or one failed."""
        if {kind for kind in self._marked().values() if kind != "lost"} != {"stopped"}:
            return ""
        return _listed([_who(beat) for beat in self._read("stopped")])

    def _reporters(self) -> list[int]:
        """The ranks that report in place of this one; empty where it is one of them."""
        if self.world.size <= REPORTERS:
            return []
        time.sleep(WATCH / 2)  # for the marks of others that lost the same rank
        lost = sorted([self.world.rank, *(rank for rank, kind in self._marked().items() if kind == "lost")])
        return [] if self.world.rank in lost[:REPORTERS] else lost[:REPORTERS]

    def _failed(self) -> str:
        """What is said of the others that ended for a reason of their own; empty where there is none."""
        kinds = [kind for kind in self._marked().values() if kind != "lost"]
        beats = self._read("failed") + self._read("stopped")
        return _listed([f"{_who(beat)} {_end(beat)}" for beat in beats], len(kinds)) if beats else ""

    def _marked(self) -> dict[int, str]:
        """The other ranks that have ended, and how: failed, stopped or lost."""
        try:
            names = [name.partition(".")[0] for name in os.listdir(self._marks) if not name.startswith(".")]
        except OSError:  # nobody has
            return {}
        ended = {int(rank): kind for kind, _, rank in (name.partition("-") for name in names)}
        return {rank: kind for rank, kind in sorted(ended.items()) if rank != self.world.rank}

    def _read(self, kind: str) -> list[Beat]:
        """The marks of some ranks that have ended so."""
        ranks = [rank for rank, found in self._marked().items() if found == kind][:SHOWN]
        return [beat for rank in ranks if (beat := Beat.read(self._marks / f"{kind}-{rank}.json"))]

    def _others(self) -> dict[int, Beat | None]:
        ranks = [rank for rank in range(self.world.size) if rank != self.world.rank]
        return {rank: Beat.read(self._path(rank)) for rank in ranks}

    def _path(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}.json"

    def _beat(self) -> None:
        due, looked, marked = 0.0, time.monotonic(), None
        while self._ended is None:
            changed, now = self._changed.is_set(), time.monotonic()
            self._changed.clear()
            if changed or now >= due:
                self._write()
                due = now + self.seconds
            if now >= looked + WATCH:
                looked = now
                marked = (marked or now) if self._marked() else None
            if marked is not None and now >= marked + GRACE and not self.writes():
                self.left_behind()
                return
            self._changed.wait(min(due, looked + WATCH) - now)
        self._write()

    def _write(self) -> None:
        ended, reported, now = self._ended, self._reported, time.time()
        beat = Beat(self.world.rank, platform.node(), self.images, self.doing, now, ended, reported)
        content = json.dumps(asdict(beat))
        with suppress(OSError):  # a full disk must not end a run for the sake of this
            replace_file(self._path(self.world.rank), content)
        if ended:
            kind = {LOST: "lost", STOPPED: "stopped"}.get(ended, "failed")
            with suppress(OSError):
                self._marks.mkdir(exist_ok=True)
                replace_file(self._marks / f"{kind}-{self.world.rank}.json", content)


def _who(beat: Beat) -> str:
    return f"rank {beat.rank} on {beat.node}"


def _end(beat: Beat) -> str:
    how = "was asked to stop" if beat.ended == STOPPED else "failed"
    return f"{how} at image {beat.images}" + ("" if beat.ended == STOPPED else f": {beat.ended}")


def _listed(lines: list[str], count: int = 0) -> str:
    """Some of the lines, of which there are more where `count` is greater."""
    count = max(count, len(lines))
    more = f"; and {count - SHOWN} more" if count > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more
