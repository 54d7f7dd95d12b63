"""Which signals ask a run to stop early. Asking sets a flag; the ranks agree on it at their next meeting."""

import os
import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether this rank was asked to stop. A second Ctrl-C stops at once."""

    def __init__(self, speaks: bool) -> None:
        """`speaks`: whether this rank tells of the first signal."""
        self.asked = False
        for number in SIGNALS:
            signal.signal(number, self._ask)
        # Python calls a handler between two of its own instructions, so never while the rank waits for a dead one in a collective;
        # this pipe is written at the instant of the signal.
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=_answer, args=(heard, speaks), name="signals", daemon=True).start()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _answer(heard: int, speaks: bool) -> None:
    """Say at once that a stop was asked for, since a batch may take minutes; end the process at the second Ctrl-C."""
    interrupts = 0
    while interrupts < 2:
        told = [number for number in os.read(heard, 64) if number in SIGNALS]
        interrupts += told.count(signal.SIGINT)
        if speaks and told and interrupts < 2:
            print(
                f"chexdist: {signal.Signals(told[0]).name}: saving soon, then ending; a second Ctrl-C stops at once",
                file=sys.stderr,
                flush=True,
            )
    print(
        "chexdist: stopped at once; the same command goes on from the newest checkpoint, if there is one",
        file=sys.stderr,
        flush=True,
    )
    os._exit(130)  # whatever the main thread waits for
