"""Which signals ask a run to stop early. A signal sets a flag. `training.trainer.Trainer.loop` reads it
before each batch, sums it over the ranks meanwhile, and after that batch saves and stops all of them."""

import os
import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether this rank was asked to stop. A second Ctrl-C stops at once."""

    def __init__(self, prints: bool) -> None:
        """`prints`: whether this rank acknowledges the first signal on standard error."""
        self.requested = False
        for number in SIGNALS:
            signal.signal(number, self._request)
        # Python calls a handler between two of its own instructions, so never while the rank waits for a dead
        # one in a collective; this pipe is written at the instant of the signal.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_acknowledge, args=(reading, prints), name="signals", daemon=True).start()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def _acknowledge(reading: int, prints: bool) -> None:
    """Print at once that a stop was requested, since a batch may take minutes; end the process at the second
    Ctrl-C.
    """
    interrupts = 0
    while interrupts < 2:
        signals = [number for number in os.read(reading, 64) if number in SIGNALS]
        interrupts += signals.count(signal.SIGINT)
        if prints and signals and interrupts < 2:
            name = signal.Signals(signals[0]).name
            print(
                f"chexdist: {name}: saving soon, then ending; a second Ctrl-C stops at once",
                file=sys.stderr,
                flush=True,
            )
    print(
        "chexdist: stopped at once; the same command resumes from the newest checkpoint, if there is one",
        file=sys.stderr,
        flush=True,
    )
    os._exit(130)  # whatever the main thread waits for
