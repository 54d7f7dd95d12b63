"""How long work is shown: a bar with rate and time left on a terminal, elsewhere a line every few seconds."""

import sys
import time
from types import TracebackType
from typing import Self

PLAIN_INTERVAL = 5.0  # seconds


class Progress:
    """One piece of work of `total` units, shown on standard error; `advance` as units are done."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._started = self._spoke = time.monotonic()
        self._live = self._bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif kind is None:
            self._say()

    def advance(self, units: int = 1) -> None:
        """Count `units` as done."""
        self._done += units
        if self._live:
            self._live.update(self._live.task_ids[0], completed=self._done, rate=self._rate())
        elif time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._say()

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._started, 1e-9)

    def _say(self) -> None:
        rate = self._rate()
        left = f", {(self._total - self._done) / rate:.0f} s left" if 0 < self._done < self._total else ""
        line = f"{self._what}: {self._done}/{self._total} {self._unit}, {rate:.1f} {self._unit}/s{left}"
        print(line, file=sys.stderr, flush=True)
        self._spoke = time.monotonic()

    def _bar(self):  # type: ignore[no-untyped-def]  # rich is imported only where there is a terminal
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        rate = TextColumn("{task.fields[rate]:.1f} " + self._unit + "/s")
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            rate,
            TimeRemainingColumn(),
        )
        bar = Bar(*columns, console=Console(stderr=True))
        bar.add_task(self._what, total=self._total, rate=0.0)
        return bar
