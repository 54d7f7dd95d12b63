"""What can be made to go wrong inside a rank: planted before the command starts, at an exact call of the product's code."""

import itertools
import json
import os
import pkgutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP = "chexdist.engine.step:Step.__call__"
DESCRIBE = "chexdist.engine.rundir:RunDirectory.describe"
LOG = "chexdist.engine.rundir:RunDirectory.log"
FLUSH = "os:fsync"  # seven in each save: five files of tensors, the last file, the directory
RENAME = "pathlib:Path.rename"
REPLACE = "pathlib:Path.replace"  # of config, provenance, status, sheet of real images, of first samples, ...


def _at_call(target: str, number: int, act: Callable[..., None]) -> None:
    """Call `act` with the same arguments just before the `number`-th call of `target`."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = pkgutil.resolve_name(f"{module}:{'.'.join(owners)}")
    original, calls = getattr(owner, name), itertools.count(1)

    def counted(*positional: Any, **named: Any) -> Any:
        if next(calls) == number:
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
            _at_call(self.target, self.call, lambda *_, **__: send(os.getpid(), self.number))


@dataclass(frozen=True)
class HalfALine:
    """Rank 0 is killed when half of the first line of its `call`-th entry in the log is written."""

    call: int

    def __call__(self, rank: int) -> None:
        def write_half(run_directory: Any, metrics: Any) -> None:
            line = json.dumps(metrics[0].to_dict())
            with (run_directory.path / "metrics.jsonl").open("a") as file:
                file.write(line[: len(line) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        if rank == 0:
            _at_call(LOG, self.call, write_half)


@dataclass(frozen=True)
class Raises:
    """Every rank meets an error that nobody foresaw just before its `call`-th call of `target`."""

    target: str
    call: int

    def __call__(self, rank: int) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise LookupError("not foreseen")

        _at_call(self.target, self.call, fail)


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

        _at_call(self.target, self.call, wait)

    def reached(self, rank: int = 0) -> bool:
        """Whether a rank waits, or has waited."""
        return self.gate.with_suffix(f".{rank}").exists()


@dataclass(frozen=True)
class Records:
    """Each rank notes the keys of every share of a batch that it reads for training, one line each, in `DIR/RANK`."""

    directory: Path

    def __call__(self, rank: int) -> None:
        from chexdist.data.reader import SampleReader

        original = SampleReader.read

        def read(reader: SampleReader, samples: list[int]) -> Any:
            if reader._pixels is not None:  # the evaluator reads without a memory
                with (self.directory / str(rank)).open("a") as file:
                    file.write(" ".join(reader.split.key[samples]) + "\n")
            return original(reader, samples)

        setattr(SampleReader, "read", read)  # noqa: B010

    def batches(self) -> list[list[str]]:
        """The keys of each global batch: the ranks' lines put together in rank order."""
        files = sorted(self.directory.iterdir(), key=lambda path: int(path.name))
        lines = [[line.split() for line in path.read_text().splitlines()] for path in files]
        return [list(itertools.chain(*shares)) for shares in zip(*lines, strict=True)]
