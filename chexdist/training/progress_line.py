"""Shows how training goes: a live line on a terminal, a plain line now and then without one."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from chexdist.config.tree import Config
from chexdist.run import layout
from chexdist.run.verdict import HEALTHY, TOO_EARLY, Verdict
from chexdist.training.checkup import Checkup

BLOCKS = "▁▂▃▄▅▆▇█"
SHOWN = 12
"""Evaluations in the sparkline."""
PLAIN_SECONDS = 20.0


class TrainingProgress:
    """Images done, images/s, time left, losses, share of time spent waiting for data. Rank 0 has one."""

    def __init__(self, total: int, done: int) -> None:
        self.console = Console(stderr=True)
        self.total, self.first = total, done
        self.started = self.printed = time.monotonic()
        self.waited = 0.0
        self.now = "first batches"
        """What is being done, or the losses that were last measured."""
        self.verdict: Verdict | None = None
        self.kids: list[float] = []
        """KID at each evaluation so far."""
        self.bar: Progress | None = None
        if self.console.is_terminal:
            self.bar = Progress(
                BarColumn(bar_width=8),
                MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=2 * len(str(total)) + 1)),
                TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
                # the last, since a narrow terminal cuts it
                TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True)),
                console=self.console,
            )
            self.task = self.bar.add_task("images", total=total, completed=done, now="")

    def __enter__(self) -> Self:
        self.started = self.printed = time.monotonic()  # what came before is not training
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, images: int) -> None:
        """Show the state after `images` images."""
        elapsed = time.monotonic() - self.started
        rate = (images - self.first) / elapsed if elapsed else 0.0
        waited = 100 * self.waited / max(elapsed, 1e-9)
        text = f"{rate:.0f} images/s, {self.health()}{self.now}, {waited:.1f} % waiting for data"
        if self.bar:
            self.bar.update(self.task, completed=min(images, self.total), now=text)
        elif time.monotonic() - self.printed > PLAIN_SECONDS or images >= self.total:
            self.printed = time.monotonic()
            left = (self.total - images) / rate if rate else float("nan")
            self.print_line(f"{images}/{self.total} images, {text}, {left:.0f} s left")

    def evaluated(self, checkup: Checkup) -> None:
        """Show the verdict, and the evaluations so far, from now on."""
        self.verdict = checkup.verdict
        self.kids = [each.value for each in checkup.curves.evaluations(checkup.curves.last())]

    def health(self) -> str:
        """The verdict in a word, coloured on a terminal, and KID: now, at best, and as a sparkline."""
        if self.verdict is None:
            return ""
        word = self.verdict.title
        if self.bar:
            colour = {HEALTHY: "green", TOO_EARLY: "dim"}.get(self.verdict.name, "bold red")
            word = f"[{colour}]{escape(word)}[/]"
        if not self.kids:
            return f"{word}, "
        line = f" {sparkline(self.kids)}" if self.bar and self.console.encoding.startswith("utf") else ""
        return f"{word}, KID {self.kids[-1]:.0f} (best {min(self.kids):.0f}){line}, "

    def print_line(self, line: str) -> None:
        """One line that stays."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def sparkline(values: list[float]) -> str:
    """The newest values as bars, the highest of them as the tallest."""
    shown = values[-SHOWN:]
    low, high = min(shown), max(shown)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round((each - low) / (high - low) * steps) if high > low else 0] for each in shown)


def opening_line(config: Config, samples: int, first: int, total: int, ranks: str) -> str:
    """What is about to be trained, from batch `first` to `total`, by whom and on what: a launcher may have
    made another world.
    """
    train = config.train
    precision = "bf16" if train.precision == "bf16" else "float32"
    return (
        f"{config.model.name} of {config.model.size} px on {samples} X-rays, images {first * train.batch} to "
        f"{total * train.batch} in batches of {train.batch}; ranks: {ranks}, {precision}"
    )


def closing_lines(verdict: Verdict) -> list[str]:
    """What is said of a training when it ends: the verdict, and the cures of an illness."""
    lines = [f"verdict: {verdict}"]
    return lines + ([f"what usually helps: {'; '.join(verdict.cures)}"] if verdict.is_ill else [])


def last_words(done: bool, images: int, trained: bool) -> list[str]:
    """What a start leaves after so many images of the run, if it did not simply end what it began."""
    if done and trained:
        return []
    if done:
        return [f"chexdist: all {images} images were done before; give more by --train.images"]
    saved = f"saved {layout.after(images)}" if images else "stopped in the first batch"
    return [f"chexdist: {saved}; the same command resumes from it"]
