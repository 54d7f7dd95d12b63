"""What must be so after a start that faults hit, and after the start that follows it."""

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from helpers import jobs

from chaos.scene import STEP, Scene
from chaos.schedule import Trial
from chaos.targets import TIMEOUT, Lab, Target, Train, target
from chexdist.report.collect import collect
from chexdist.run.alive import SECONDS

BUSY = 3
"""How much longer than undisturbed a disturbed start may train: other work may share the processors."""
TO_LEAVE = 40
"""Seconds to notice it, beyond `control.timeout`, and to end: a requested stop waits 20 at most."""
TO_CONNECT = 60
"""Seconds for which torch tries to reach a store that is cut off before the rendezvous is complete."""
ENDS = {0, 1, 2, 75, 130}
OURS = re.compile(r'File ".*/(chexdist|shards)/')
"""In a traceback; a launcher has some of its own."""
UNBORN = re.compile(r"Traceback .*\n(  .*\n)* .* in spawn_main\n(  .*\n)*EOFError.*\n")
"""What Python prints in a process whose parent was killed while it started it."""
BY_ITSELF = {signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT}
"""Signals that end a process before it has begun to listen to them."""


@dataclass(frozen=True)
class Undisturbed:
    """What a start without faults leaves, and the seconds that it takes."""

    target: Target
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: codes and seconds of the disturbed start, its last line, what was wrong."""

    trial: Trial
    codes: list[int | None]
    seconds: float
    cause: str
    wrong: str

    def row(self) -> str:
        """A line of the table."""
        fields = (
            self.trial.seed,
            self.trial,
            self.codes,
            f"{self.seconds:.1f}",
            self.cause,
            self.wrong or "ok",
        )
        return "\t".join(re.sub(r"\s+", " ", str(field)) for field in fields)


def bound(undisturbed: float, trial: Trial) -> float:
    """Seconds within which every disturbed start ends, after the last fault."""
    cut = any(fault.kind == "cut link" for fault in trial.faults)
    return BUSY * undisturbed + TIMEOUT + TO_LEAVE + cut * TO_CONNECT


def undisturbed(lab: Lab, trial: Trial) -> Undisturbed:
    """Start the trial's command without its faults."""
    quiet = Trial(trial.seed, trial.target, trial.size, ())
    with target(lab, quiet, lab.base / f"undisturbed-{trial.target}-{trial.size}") as made:
        begun = time.monotonic()
        scene = made.start(disturbed=False)
        left = scene.wait(300)
        assert not left and scene.codes() == [0] * len(scene.pids), scene.output
        return Undisturbed(made, time.monotonic() - begun)


def run(lab: Lab, trial: Trial, reference: Undisturbed) -> Outcome:
    """One trial: a start that is disturbed, and the one that follows."""
    begun, codes, took, said, wrong = time.monotonic(), [], 0.0, "", ""
    with target(lab, trial, lab.disk.path / f"trial-{trial.seed}") as made:
        scene = made.start(disturbed=True)
        try:
            for fault in trial.faults:
                while time.monotonic() - begun < fault.at * reference.seconds and scene.alive():
                    time.sleep(STEP)
                scene.hit(fault)
            check_end(scene, bound(reference.seconds, trial))
            took, codes, said = time.monotonic() - begun, scene.codes(), _cause(scene.output)
            check_words(scene)
            if isinstance(made, Train):
                check_status(made.run, scene)
            check_again(made, reference)
        except AssertionError as error:
            wrong = str(error)[-4000:] or "failed"
        finally:
            scene.heal()
            scene.end()
            made.remove()
    return Outcome(trial, codes, took, said, wrong)


def check_end(scene: Scene, seconds: float) -> None:
    """All end in time; those that were stopped, once they go on."""
    left = scene.wait(seconds, besides=scene.frozen)
    assert not left, f"not ended within {seconds:.0f} s: {_shown(scene, left)}"
    scene.heal()
    left = scene.wait(seconds)
    assert not left, f"not ended within {seconds:.0f} s of resuming: {_shown(scene, left)}"


def _shown(scene: Scene, left: list[int]) -> str:
    names = {pid: " ".join(scene.seen[pid].cmdline())[-80:] for pid in left}
    return f"{names}\n{scene.output[-2000:]}"


def check_words(scene: Scene) -> None:
    """Each ended by a code of its own, or by a signal that it was sent; errors are lines, not tracebacks."""
    allowed = ENDS | {-number for number in scene.signalled & {*BY_ITSELF, signal.SIGKILL}}
    assert {*scene.codes()} <= allowed, f"codes {scene.codes()}\n{scene.output[-2000:]}"
    output = UNBORN.sub("", scene.output) if -signal.SIGKILL in scene.codes() else scene.output
    ours = "Traceback" in output and (not scene.is_launched or OURS.search(output))
    assert not ours, scene.output[-3000:]
    unborn = signal.SIGINT in scene.signalled and not output  # multiprocessing's code, before that of a rank
    if {1, 2} & {*scene.codes()} and not scene.is_launched and not unborn:
        assert _cause(scene.output), f"no cause is given\n{scene.output[-2000:]}"


def _cause(output: str) -> str:
    lines = re.findall(r"^chexdist[^:\n]*: (.*)", output, re.MULTILINE)
    return lines[-1] if lines else ""


def check_status(run: Path, scene: Scene) -> None:
    """Its reader says that the run is over. Heartbeats are made as old as they are two minutes later."""
    if not (run / "status.json").exists():
        return
    for beat in (run / "heartbeats").glob("rank-*.json"):
        old = time.time() - SECONDS - 1
        os.utime(beat, (old, old))
    status = jobs.status(run)
    if (run / "config.yaml").exists():
        (found,) = collect([str(run)])
        assert found.state != "running", f"{status} of a run that has ended"
    if status["state"] == "running":
        excused = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1, -signal.SIGHUP, 130} & {*scene.codes()}
        assert excused or "No space left" in scene.output, f"{status}, codes {scene.codes()}"
    if status["state"] == "failed":
        assert status["cause"], status


def check_again(made: Target, reference: Undisturbed) -> None:
    """The same command resumes to the same bytes; what was complete is, and may be refused by its name."""
    complete = made.is_complete()
    scene = made.start(disturbed=False)
    try:
        left = scene.wait(bound(reference.seconds, made.trial))
        assert not left, f"started again, not ended: {_shown(scene, left)}"
        done = all(code == 0 for code in scene.codes())
        refused = complete and not isinstance(made, Train) and scene.codes() == [2]
        assert done or refused, f"started again: codes {scene.codes()}\n{scene.output[-3000:]}"
    finally:
        scene.end()
    made.check_same(reference.target)
