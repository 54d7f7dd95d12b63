"""How a count of work is shown: a bar on a terminal, elsewhere a line every few seconds. Standard error only."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

PLAIN_SECONDS = 5.0


class Progress:
    """One piece of work of `total` units; `advance` as units are done."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._console = Console(stderr=True)
        self._spoken = time.monotonic()
        self._bar: Bar | None = None
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console)
            self._task = self._bar.add_task(what, total=total)

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
            self._say()

    def advance(self, units: int) -> None:
        """Count `units` as done."""
        self._done += units
        if self._bar:
            self._bar.advance(self._task, units)
        elif time.monotonic() - self._spoken >= PLAIN_SECONDS:
            self._say()

    def _say(self) -> None:
        self._spoken = time.monotonic()
        self._console.print(f"{self._what}: {self._done}/{self._total}", highlight=False, markup=False)
