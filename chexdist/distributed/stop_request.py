"""Which signals ask a run to stop early, and how long each may be waited on.

A signal sets a flag, which `training.stop_vote` all-reduces; the loop then saves and stops all of
them. Where the loop does not poll it, as in start-up and in an evaluation, the process ends itself once the
time is over that `patience` gives.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from chexdist.errors import EXIT_STOPPED_EARLY

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
POLL = 0.1
SECONDS_TO_LEAVE = 5
"""For the last writes to the disk, which may not answer."""


def _nothing() -> None:
    pass


class StopRequest:
    """Whether this rank was asked to stop. A second Ctrl-C stops at once.

    `patience`: seconds that a request may wait now, 0 until it is set; None where the loop will see it.
    `leave`: called before the process ends itself.

    Signals reach a process's main thread alone. In another thread there is no handler, and the process is not
    this run's to end: only `asked` stops it, in the loop."""

    def __init__(self, prints: bool, asked: threading.Event | None = None) -> None:
        """
        Args:
            prints: whether this rank acknowledges the first signal on standard error.
            asked: by which a caller stops the run.
        """
        self._signalled, self._asked, self._prints = False, asked or threading.Event(), prints
        self.patience: Callable[[], float | None] = lambda: 0
        self.leave: Callable[[], None] = _nothing
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._request)
        # Python calls a handler between two of its own instructions, so never while the rank waits for a dead
        # one in a collective; this pipe is written at the instant of the signal.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), name="signals", daemon=True).start()

    @property
    def requested(self) -> bool:
        """Whether a signal has come, or the caller has asked."""
        return self._signalled or self._asked.is_set()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _watch(self, reading: int) -> None:
        """Acknowledge a signal at once, since a batch may take minutes; end the process at the second Ctrl-C,
        or when a request has waited as long as it may.
        """
        interrupts, waiting_since, name = 0, None, ""
        while interrupts < 2:
            found = select.select([reading], [], [], POLL if name else None)[0]
            signals = [number for number in os.read(reading, 64) if number in SIGNALS] if found else []
            interrupts += signals.count(signal.SIGINT)
            name = name or (signal.Signals(signals[0]).name if signals else "")
            patience = self.patience() if name else None
            waiting_since = None if patience is None else waiting_since or time.monotonic()
            if patience is not None and waiting_since and time.monotonic() - waiting_since >= patience:
                self._end(name, patience)
            if self._prints and signals and interrupts < 2:
                _say(f"{name}: saving soon, then ending; a second Ctrl-C stops at once")
        _say("stopped at once; the same command resumes from the newest checkpoint, if there is one")
        os._exit(130)  # whatever the main thread waits for

    def _end(self, name: str, waited: float) -> None:
        leaving = threading.Thread(target=self._leave, daemon=True)
        leaving.start()
        leaving.join(SECONDS_TO_LEAVE)
        if self._prints:
            when = f"after {waited:g} s without a batch's end" if waited else "in start-up"
            _say(f"{name}: stopped {when}; the same command resumes from the newest checkpoint, if any")
        os._exit(EXIT_STOPPED_EARLY)  # whatever the main thread waits for

    def _leave(self) -> None:
        with suppress(Exception):  # on a full disk the line on standard error must do
            self.leave()


def _say(line: str) -> None:
    print(f"chexdist: {line}", file=sys.stderr, flush=True)
