"""What can be made to go wrong inside a rank, at an exact call of the product's code."""

import itertools
import json
import os
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import chexdist

PRODUCT = Path(chexdist.__file__).parent
STEP = "chexdist.training.step:Step.__call__"
DESCRIBE = "chexdist.run.directory:RunDirectory.describe"
APPEND = "chexdist.run.directory:RunDirectory._append"  # by the thread that writes, to any record
FLUSH = "os:fsync"  # eight in each save: the log, five files of tensors, the last file, the directory
WRITE = "chexdist.run.checkpoint:_write"  # six in each save: its files, the last one last
RENAME = "pathlib:Path.rename"  # of a checkpoint to its name, of one that is deleted to a passing name
DELETE = "shutil:rmtree"
SNAPSHOT = "chexdist.run.checkpoint:snapshot"
REPLACE = "os:replace"  # of config, provenance, status, sheet of real images, of first samples, ...


def at_call(target: str, number: int | None, act: Callable[..., None]) -> None:
    """Call `act` with the same arguments just before the `number`-th call of `target`, or before each."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = pkgutil.resolve_name(f"{module}:{'.'.join(owners)}")
    original, calls = getattr(owner, name), itertools.count(1)

    def counted(*positional: Any, **named: Any) -> Any:
        if next(calls) == number or number is None:
            act(*positional, **named)
        return original(*positional, **named)

    setattr(owner, name, counted)


@dataclass(frozen=True)
class Signal:
    """`rank` sends itself, or its process group, a signal just before its `call`-th call of `target`."""

    target: str
    call: int
    rank: int = 0
    number: signal.Signals = signal.SIGKILL
    group: bool = False

    def __call__(self, rank: int) -> None:
        send = os.killpg if self.group else os.kill
        if rank == self.rank:
            at_call(self.target, self.call, lambda *_, **__: send(os.getpid(), self.number))


@dataclass(frozen=True)
class Both:
    """Two faults in one start."""

    first: Callable[[int], None]
    second: Callable[[int], None]

    def __call__(self, rank: int) -> None:
        self.first(rank)
        self.second(rank)


def _calls(frame: FrameType | None) -> list[str]:
    """The product's functions on a stack, outermost first."""
    found = []
    while frame:
        file, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if PRODUCT in file.parents and "<" not in name:
            found.append(f"{file.stem}.{name}")
        frame = frame.f_back
    return found[::-1]


@dataclass(frozen=True)
class Kill:
    """`rank` kills itself just before its `call`-th call of `target`, and notes where that was."""

    target: str
    call: int
    rank: int = 0
    note: Path = Path("note.json")

    def __call__(self, rank: int) -> None:
        from chexdist.training.step import Step

        if rank != self.rank:
            return
        done: list[int] = []
        main_thread = threading.main_thread().ident or 0
        train = Step.__call__

        def counted(step: Step, t: int, *rest: Any) -> None:
            train(step, t, *rest)
            done.append(t + 1)

        def die(*_: Any, **__: Any) -> None:
            sys.setswitchinterval(60)  # the thread that trains stands still while its stack is read
            frames = {"here": sys._getframe(), "main": sys._current_frames()[main_thread]}
            where = {name: _calls(frame) for name, frame in frames.items()}
            self.note.write_text(json.dumps({**where, "batches": done[-1] if done else None}))
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(Step, "__call__", counted)  # noqa: B010
        at_call(self.target, self.call, die)


@dataclass(frozen=True)
class Slow:
    """Every call of `target` takes longer by so many seconds."""

    target: str
    seconds: float

    def __call__(self, rank: int) -> None:
        at_call(self.target, None, lambda *_, **__: time.sleep(self.seconds))


@dataclass(frozen=True)
class Synchronous:
    """Training stands still while a checkpoint is written."""

    def __call__(self, rank: int) -> None:
        from chexdist.run.saver import Saver

        begin = Saver.start

        def start(saver: Saver, *arguments: Any) -> None:
            begin(saver, *arguments)
            saver.wait()

        setattr(Saver, "start", start)  # noqa: B010


@dataclass(frozen=True)
class Diary:
    """Rank 0 notes each batch that it begins and each file of a checkpoint that it flushes, one line each."""

    path: Path

    def __call__(self, rank: int) -> None:
        def note(line: str) -> None:
            with self.path.open("a") as file:
                file.write(line + "\n")

        if rank == 0:
            at_call(STEP, None, lambda step, t, *_: note(f"batch {t}"))
            at_call(WRITE, None, lambda path, content: note(f"{path.parent.name} {path.name}"))


@dataclass(frozen=True)
class Scores:
    """KID after so many images is what is given here."""

    values: dict[int, float]

    def __call__(self, rank: int) -> None:
        from chexdist.evaluation import findings

        measured = findings.line_of

        def line_of(config: Any, images: int, name: str, *rest: Any) -> Any:
            found = measured(config, images, name, *rest)
            value = self.values.get(images) if name == "kid_x1000" else None
            return found if value is None else replace(found, value=value, low=value, high=value)

        setattr(findings, "line_of", line_of)  # noqa: B010


@dataclass(frozen=True)
class HalfALine:
    """Rank 0 is killed when half of the first line of its `call`-th entry in the log is written."""

    call: int

    def __call__(self, rank: int) -> None:
        def write_half(run_directory: Any, name: str, content: str) -> None:
            line = content.partition("\n")[0]
            with (run_directory.path / name).open("a") as file:
                file.write(line[: len(line) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        if rank == 0:
            at_call(APPEND, self.call, write_half)


@dataclass(frozen=True)
class Raises:
    """Every rank raises just before its `call`-th call of `target`: what is given, or what nobody foresaw."""

    target: str
    call: int
    error: Exception = field(default_factory=lambda: LookupError("not foreseen"))

    def __call__(self, rank: int) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise self.error

        at_call(self.target, self.call, fail)


@dataclass(frozen=True)
class Waits:
    """Every rank waits before its `call`-th call of `target` for as long as `gate` does not exist."""

    target: str
    call: int
    gate: Path

    def __call__(self, rank: int) -> None:
        def wait(*_: Any, **__: Any) -> None:
            self.gate.with_suffix(f".{rank}").touch()
            while not self.gate.exists():
                time.sleep(0.01)

        at_call(self.target, self.call, wait)

    def reached(self, rank: int = 0) -> bool:
        """Whether a rank waits, or has waited."""
        return self.gate.with_suffix(f".{rank}").exists()


@dataclass(frozen=True)
class Records:
    """Each rank notes the keys of every share of a batch that it trains on, a line each, in `DIR/RANK`."""

    directory: Path

    def __call__(self, rank: int) -> None:
        from chexdist.data.reader import SampleReader

        original = SampleReader.read

        def read(reader: SampleReader, samples: list[int]) -> Any:
            if reader._decoded is not None:  # the evaluator reads without a memory
                with (self.directory / str(rank)).open("a") as file:
                    file.write(" ".join(reader.split.key[samples]) + "\n")
            return original(reader, samples)

        setattr(SampleReader, "read", read)  # noqa: B010

    def batches(self) -> list[list[str]]:
        """The keys of each global batch that all ranks have read: the ranks' lines, joined in rank order."""
        files = sorted(self.directory.iterdir(), key=lambda path: int(path.name))
        lines = [[line.split() for line in path.read_text().splitlines()] for path in files]
        return [list(itertools.chain(*shares)) for shares in zip(*lines, strict=False)]


@dataclass(frozen=True)
class Drifts:
    """One element of one rank's averaged generator differs in its last bit after the `call`-th step."""

    call: int
    rank: int = 1

    def __call__(self, rank: int) -> None:
        def change(step: Any, *_: Any) -> None:
            import torch

            element = next(step.gan.ema.parameters()).data.view(-1)[:1]
            element.view(torch.int32).bitwise_xor_(1)

        if rank == self.rank:
            at_call(STEP, self.call, change)
