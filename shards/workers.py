"""How work is spread over processes, and what happens when one of them dies.

Each worker has a pipe of its own: when it is killed, even in the middle of an answer, the pipe ends and the
parent knows which task it had. (One pipe for all, as an executor has, would wait for the rest of the answer
for ever, since the other workers hold it open.) A worker that died is replaced.

Workers are spawned, ignore Ctrl-C and the like (the parent decides), end with their parent even if that is
killed, and never load torch: webdataset would, which costs seconds and hundreds of megabytes each, but it can
do without.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from shards.errors import WorkError
from shards.progress import Progress
from shards.stop_signals import ASKING, held_back

Task = TypeVar("Task")
Result = TypeVar("Result")
TRIES = 2
KEPT_BY_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For glibc, which by itself returns each picture's arrays to the kernel and has the next one's cleared anew:
a quarter of a worker's time. The first is the greatest that mallopt(3) allows.
"""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Each worker is one thread. Numpy asks for it when it is imported, and a script that builds may import it in
each worker before all else."""


class Died:
    """In place of a result: the worker that had the task was killed, crashed, or ran out of memory."""


class _Worker:
    """One process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment(KEPT_BY_MALLOC | ONE_THREAD), held_back():
            self._process.start()  # half a start would be a traceback of the worker's
        theirs.close()  # so that the pipe ends with the process
        self.begun = False
        self.task: Any = None

    def give(self, function: Callable[[Any], Any], task: Any) -> None:
        self.task = task
        try:
            self.pipe.send((function, task))
        except OSError:  # it is dead: its pipe says so when it is read
            pass

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()  # whatever it does; it answers first what is asked for, and holds nothing back
        self._process.join()


class Workers:
    """A pool of `count` processes; leaving the context ends them at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._workers:
            self._workers.pop().end()

    def start(self) -> None:
        """Start all now, ahead of their first task; else they are started when there is one."""
        self._ready(self._count)

    def each(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], at_most: int | None = None
    ) -> Iterator[tuple[Task, Result | Died]]:
        """Each task with `function(task)`, as they are done, by `at_most` workers at a time.

        Raises what the function raises, and WorkError when workers die before they take a task.
        """
        waiting = iter(tasks)
        idle = self._ready(min(at_most or self._count, self._count))
        busy: dict[Connection, _Worker] = {}
        while True:
            while idle and (task := next(waiting, self)) is not self:
                worker = idle.pop()
                worker.give(function, task)
                busy[worker.pipe] = worker
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    answer = worker.pipe.recv()
                except (EOFError, OSError):
                    del busy[worker.pipe]
                    idle.append(self._replace(worker))
                    yield worker.task, Died()
                    continue
                if not worker.begun:  # its first message
                    worker.begun = True
                    continue
                del busy[worker.pipe]
                idle.append(worker)
                result, error = answer
                if error is not None:
                    raise error
                yield worker.task, result

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        progress: Progress,
        units: Callable[[Task], int],
        suspects: Callable[[list[Task]], list[str]],
    ) -> list[Result]:
        """`[function(task) for task in tasks]` in parallel; `units` of progress for each task.

        A task whose worker dies is done again; when that dies as well, WorkError names the task's `suspects`.
        """
        results: dict[int, Result] = {}
        numbered = list(enumerate(tasks))
        for attempt in range(TRIES):
            lost = []
            for (number, task), result in self.each(_Numbered(function), numbered):
                if isinstance(result, Died):
                    lost.append((number, task))
                else:
                    results[number] = result
                    progress.advance(units(task))
            numbered = sorted(lost, key=lambda pair: pair[0])
            if numbered and attempt == TRIES - 1:
                names = ", ".join(suspects([task for _, task in numbered]))
                raise WorkError(
                    f"a worker process died (killed, crashed, or out of memory) at: {names}\n"
                    "the same command resumes from here; use fewer --workers if memory ran out"
                )
        return [results[number] for number in range(len(tasks))]

    def _ready(self, count: int) -> list[_Worker]:
        while len(self._workers) < count:
            self._workers.append(_Worker())
        return self._workers[:count]

    def _replace(self, dead: _Worker) -> _Worker:
        self._workers.remove(dead)
        dead.end()
        if not dead.begun:
            raise WorkError("a worker process died before it began: memory may be short, use fewer --workers")
        self._workers.append(_Worker())
        return self._workers[-1]


class _Numbered:
    """`function` of the second of a pair (a class, since what a worker gets must have a name)."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, pair: tuple[int, Any]) -> Any:
        return self._function(pair[1])


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Variables of a process that is started meanwhile, where the user has not set them."""
    own = {name: value for name, value in more.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]


def default_workers() -> int:
    """The number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(pipe: Connection) -> None:
    """What a worker does: say that it is there, then answer each task by (result, None) or (None, error)."""
    for number in ASKING:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
    sys.modules["torch"] = None  # type: ignore[assignment]  # makes `import torch` an ImportError
    warnings.simplefilter("ignore")  # what can be read is used, what can not is listed
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(None)
        import shards.scan  # noqa: F401  what most tasks need, ahead of the first one

        while True:
            function, task = pipe.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = function(task), None
            except Exception as error:  # noqa: BLE001  the parent raises it
                answer = None, error
            pipe.send(answer)
    except (EOFError, OSError):  # the parent has closed the pipe
        pass


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
