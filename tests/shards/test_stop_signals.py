"""Signals that ask a command to stop end it by KeyboardInterrupt, whatever becomes of that on its way."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from shards.stop_signals import stoppable

NUMBER = signal.SIGUSR2


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(NUMBER)
    yield
    signal.signal(NUMBER, before)


def test_a_signal_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt) as stop, stoppable(NUMBER):
        os.kill(os.getpid(), NUMBER)
    assert stop.value.args == (NUMBER,)


def test_an_error_that_a_signal_became_is_the_signal() -> None:
    with pytest.raises(KeyboardInterrupt) as stop, stoppable(NUMBER):
        try:
            os.kill(os.getpid(), NUMBER)
        except KeyboardInterrupt:
            raise ImportError("could not import module") from None
    assert stop.value.args == (NUMBER,) and isinstance(stop.value.__cause__, ImportError)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ImportError), stoppable(NUMBER):
        raise ImportError("could not import module")


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(NUMBER, signal.SIG_IGN)
    with stoppable(NUMBER):
        os.kill(os.getpid(), NUMBER)
    assert signal.getsignal(NUMBER) is signal.SIG_IGN


def test_another_thread_leaves_signals_alone() -> None:
    before, after = signal.getsignal(NUMBER), []

    def work() -> None:
        with stoppable(NUMBER):
            after.append(signal.getsignal(NUMBER))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert after == [before]
