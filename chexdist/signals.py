"""Which signals ask a run to stop early. Asking sets a flag; the ranks agree on it at their next meeting."""

import os
import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether this rank was asked to stop. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False
        for number in SIGNALS:
            signal.signal(number, self._ask)
        # Python calls a handler between two of its own instructions, so never while the rank waits for a dead one in a collective;
        # this pipe is written at the instant of the signal.
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=_stop_at_second, args=(heard,), name="signals", daemon=True).start()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def _stop_at_second(heard: int) -> None:
    interrupts = 0
    while interrupts < 2:
        interrupts += os.read(heard, 64).count(signal.SIGINT)
    print(
        "chexdist: stopped at once; the newest checkpoint is where the same command goes on",
        file=sys.stderr,
        flush=True,
    )
    os._exit(130)  # whatever the main thread waits for
