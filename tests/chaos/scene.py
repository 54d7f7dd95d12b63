"""One start of a command: its processes, what they printed, and the faults that hit them."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from helpers import shard_server
from helpers.faults import FLUSH, Slow
from helpers.hosts import ADDRESSES, TwoHosts
from helpers.shard_server import ShardServer

from chaos.sandbox import Disk, enter_network
from chaos.schedule import Fault, Trial

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
STEP = 0.05
ANSWERS = {
    "corrupt shard": shard_server.corrupt,
    "cut answer": shard_server.cut,
    "silent server": shard_server.silent,
    "server error": shard_server.status(503),
    "lost shard": shard_server.status(404),
}
MOST_TRIES = 9
"""More than the product makes for a shard; below its own number it gets the shard in the end."""


@dataclass(frozen=True)
class Planted:
    """What is so in a rank from its start on: its clock is off, its disk is slow, its host is another."""

    trial: Trial
    spaces: tuple[str, ...]

    def __call__(self, rank: int) -> None:
        from chexdist.data import remote

        remote.FIRST_PAUSE = 0.01
        if self.spaces:
            enter_network(self.spaces[rank * len(self.spaces) // self.trial.size])
            os.environ.update(MASTER_ADDR=ADDRESSES[0], GLOO_SOCKET_IFNAME="cable")
        for fault in self.trial.faults:
            if fault.kind == "slow disk":
                Slow(FLUSH, 0.3 * fault.amount)(rank)
            if fault.kind == "clock" or (fault.kind == "one rank's clock" and rank == fault.rank):
                _shift_clock((fault.amount - 0.5) * 4 * 86400)


def _shift_clock(seconds: float) -> None:
    now = time.time
    time.time = lambda: now() + seconds


def plant_answers(trial: Trial, server: ShardServer) -> None:
    """Some of the server's next answers for each shard are wrong."""
    for fault in trial.faults:
        if fault.kind in ANSWERS:
            times = 1 + int(fault.amount * MOST_TRIES)
            for path in server.directory.glob("*.tar"):
                server.goes_wrong(path.name, *[ANSWERS[fault.kind]] * times)


@dataclass
class Scene:
    """Processes in rank order, and what can be done to them and around them.

    `seen`: every process of it that ever was there, by number and time of its start."""

    pids: list[int]
    codes: Callable[[], list[int | None]]
    log: Path
    disk: Disk
    shm: Disk
    hosts: TwoHosts | None = None
    is_launched: bool = False
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    killed: set[int] = field(default_factory=set)
    signalled: set[int] = field(default_factory=set)
    """Numbers of the signals that it was sent."""
    frozen: set[int] = field(default_factory=set)

    @property
    def output(self) -> str:
        """What all of them have printed."""
        return self.log.read_text(errors="replace")

    def alive(self) -> list[int]:
        """Which of its processes are left, those that they started too."""
        for pid in {*self.pids, *self.seen}:
            with suppress(psutil.Error):
                process = self.seen.setdefault(pid, psutil.Process(pid))
                if process.is_running():
                    for child in process.children(recursive=True):
                        self.seen.setdefault(child.pid, child)
        self.codes()
        return [pid for pid, process in self.seen.items() if _is_left(process)]

    def wait(self, seconds: float, besides: set[int] = frozenset()) -> list[int]:
        """Wait for the end of all but those; which are left when the time is over."""
        end = time.monotonic() + seconds
        while left := [pid for pid in self.alive() if pid not in besides]:
            if time.monotonic() > end:
                return left
            time.sleep(STEP)
        while None in self.codes() and not besides and time.monotonic() < end:
            time.sleep(STEP)
        return []

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.alive():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def hit(self, fault: Fault) -> None:
        """Let one fault happen now."""
        strike = STRIKES.get(fault.kind)
        if strike is not None:
            strike(self, fault)

    def heal(self) -> None:
        """Room on the disks, the cable in its place, and nobody stopped."""
        self.disk.free()
        self.shm.free()
        if self.hosts:
            self.hosts.cable("up")
        for pid in self.frozen:
            self.send(pid, signal.SIGCONT)
        self.frozen.clear()

    def send(self, pid: int, number: signal.Signals) -> None:
        """A signal to one of its processes, if that is still there."""
        if pid in self.alive():
            with suppress(OSError):
                os.kill(pid, number)
                self.signalled.add(number)

    def child(self, fault: Fault) -> int | None:
        """One of the processes that the first has started."""
        children = [pid for pid in self.alive() if pid not in self.pids]
        return children[int(fault.amount * len(children))] if children else None


def _is_left(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(scene: Scene, fault: Fault) -> None:
    scene.send(scene.pids[fault.rank % len(scene.pids)], signal.SIGKILL)


def _kill_all(scene: Scene, fault: Fault) -> None:
    for pid in scene.pids:
        scene.send(pid, signal.SIGKILL)


def _kill_child(scene: Scene, fault: Fault) -> None:
    if child := scene.child(fault):
        scene.send(child, signal.SIGKILL)


def _pause(scene: Scene, pid: int, fault: Fault) -> None:
    scene.send(pid, signal.SIGSTOP)
    time.sleep(0.3 + 2 * fault.amount)
    scene.send(pid, signal.SIGCONT)


def _pause_child(scene: Scene, fault: Fault) -> None:
    if child := scene.child(fault):
        _pause(scene, child, fault)


def _freeze(scene: Scene, fault: Fault) -> None:
    pid = scene.pids[fault.rank]
    if pid in scene.alive():
        scene.send(pid, signal.SIGSTOP)
        scene.frozen.add(pid)


def _terminate(scene: Scene, fault: Fault) -> None:
    number = ASKING[int(fault.amount * len(ASKING))]
    scene.send(scene.pids[fault.rank % len(scene.pids)], number)


def _terminate_all(scene: Scene, fault: Fault) -> None:
    for pid in scene.pids:
        scene.send(pid, ASKING[int(fault.amount * len(ASKING))])


def _interrupt(scene: Scene, fault: Fault) -> None:
    pid = scene.pids[fault.rank % len(scene.pids)]
    scene.send(pid, signal.SIGINT)
    if fault.amount > 0.5:
        time.sleep(0.3 * fault.amount)
        scene.send(pid, signal.SIGINT)


def _cut(scene: Scene, fault: Fault) -> None:
    """For a moment, or until all have ended."""
    assert scene.hosts
    scene.hosts.cable("down")
    if fault.amount < 0.4:
        time.sleep(5 * fault.amount)
        scene.hosts.cable("up")


STRIKES: dict[str, Callable[[Scene, Fault], None]] = {
    "kill": _kill,
    "kill all": _kill_all,
    "kill child": _kill_child,
    "pause": lambda scene, fault: _pause(scene, scene.pids[fault.rank % len(scene.pids)], fault),
    "pause child": _pause_child,
    "freeze": _freeze,
    "terminate": _terminate,
    "terminate all": _terminate_all,
    "interrupt": _interrupt,
    "full disk": lambda scene, fault: scene.disk.fill(),
    "full shm": lambda scene, fault: scene.shm.fill(),
    "cut link": _cut,
    "launcher killed": _kill,
    "launcher terminated": lambda scene, fault: scene.send(scene.pids[0], signal.SIGTERM),
}
