"""What a signal that asks a command to stop does where any moment will do."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""What a terminal, a system that goes down, or a batch system sends to have a command stop."""


@contextmanager
def held_back() -> Iterator[None]:
    """In the body those signals wait, and in a process that the body starts, until it lets them come."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stoppable(*numbers: signal.Signals) -> Iterator[None]:
    """From here on these signals raise KeyboardInterrupt, with their number, in the main thread; not those
    that the process was started to ignore, as by `nohup`.

    So does any error of the body after one of them: a module in C that is importing another loses what the
    handler raised and raises an error of its own, as numpy does (an ImportError, from PyCapsule_Import).
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt(number)

    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt(came[0]) from error
        raise
