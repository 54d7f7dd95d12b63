"""Decides how progress is shown: a bar with rate and time left on a terminal, else a line every few seconds.

Both packages use it, on standard error only. It knows nothing of either, and loads rich only where there is a
terminal.
"""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PLAIN_SECONDS = 5.0  # between two lines


class Progress:
    """The progress of one piece of work of `total` units; call `advance` as units are done."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._bar = self._make_bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._print_line()

    def advance(self, units: int = 1) -> None:
        """Count `units` as done."""
        self._done += units
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=self._done, rate=self._rate())
        elif time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._print_line()

    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._started, 1e-9)

    def _print_line(self) -> None:
        rate = self._rate()
        left = f", {(self._total - self._done) / rate:.0f} s left" if 0 < self._done < self._total else ""
        line = f"{self._what}: {self._done}/{self._total} {self._unit}, {rate:.1f} {self._unit}/s{left}"
        print(line, file=sys.stderr, flush=True)
        self._last_line = time.monotonic()

    def _make_bar(self) -> "Bar":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} " + self._unit + "/s"),
            TimeRemainingColumn(),
        )
        bar = Bar(*columns, console=Console(stderr=True))
        bar.add_task(self._what, total=self._total, rate=0.0)
        return bar
