"""Decides when what rank 0 appends to its records is written: by a thread, in order, while training
continues, so that no rank waits for a slow disk.
"""

from collections.abc import Callable
from queue import Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Self

MOST = 256
"""Writes that may be pending; a caller that enqueues one more waits for the disk."""


class Writer:
    """Executes actions in a thread of its own, in the order in which they were enqueued.

    After the first failure nothing more is done; it is raised by the next call of `put`, `check` or `flush`.
    As a context, it finishes what is pending, also after an error: then for at most `timeout` seconds.
    """

    def __init__(self) -> None:
        self.timeout = 0.0
        self._pending: Queue[Callable[[], object] | Event | None] = Queue(MOST)
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            self.close(self.timeout)

    def put(self, action: Callable[[], object]) -> None:
        """Enqueue an action.

        Raises:
            Exception: what an earlier action raised.
        """
        self.check()
        if self._thread is None:
            # a daemon, since a second Ctrl-C stops at once
            self._thread = Thread(target=self._work, name="writer", daemon=True)
            self._thread.start()
        self._pending.put(action)

    def check(self) -> None:
        """Raise what went wrong, if anything has."""
        if self._failure:
            raise self._failure

    def flush(self) -> None:
        """Wait until all that was enqueued before is done; raises as `check` does. From any thread."""
        if self._thread is not None:
            reached = Event()
            self._pending.put(reached)
            reached.wait()
        self.check()

    def close(self, seconds: float) -> None:
        """Wait at most so long until all is done, and let the thread end."""
        if self._thread is None:
            return
        try:
            self._pending.put(None, timeout=seconds)
        except Full:
            return
        self._thread.join(seconds)

    def _work(self) -> None:
        while (action := self._pending.get()) is not None:
            if isinstance(action, Event):
                action.set()
            elif self._failure is None:
                try:
                    action()
                except Exception as error:  # noqa: BLE001 - whatever it is, the thread that trains raises it
                    self._failure = error
