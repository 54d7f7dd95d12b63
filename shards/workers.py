"""How work is spread over processes, and what happens when one of them dies.

Workers are spawned, ignore Ctrl-C (the parent decides), end with their parent even if that is killed, and
never load torch: webdataset would, which costs seconds and hundreds of megabytes each, but it can do without.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self, TypeVar

from shards.errors import WorkError
from shards.progress import Progress

Task = TypeVar("Task")
Result = TypeVar("Result")


def default_workers() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """A pool of `count` processes; leaving the context waits for the tasks that run, and drops the others."""

    def __init__(self, count: int) -> None:
        self._count = count
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        progress: Progress,
        units: Callable[[Task], int],
        suspects: Callable[[list[Task]], list[str]],
    ) -> list[Result]:
        """`[function(task) for task in tasks]` in parallel; `units` of progress for each task.

        When a worker dies, WorkError names the `suspects` of the tasks that were being done or next in turn.
        """
        futures = {self._pool.submit(function, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(units(futures[future]))
        except BrokenProcessPool:
            broken = [task for future, task in futures.items() if future.exception()]
            names = ", ".join(suspects(broken[: self._count + 1]))  # tasks start in this order
            raise WorkError(
                f"a worker process died (killed, crashed, or out of memory) at one of: {names}\n"
                "move the input that crashes it away, or use fewer --workers if memory ran out"
            ) from None
        return [future.result() for future in futures]


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` an ImportError
    warnings.simplefilter("ignore")  # what can be read is used, what can not is listed
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
