"""Progress without a terminal is plain lines with rate and time left; failed work claims no end."""

import os
import pty
import subprocess
import sys

import pytest

from shards import progress
from shards.progress import Progress

WORK = """
import sys
from shards.progress import Progress
with Progress("scan", 4, "images") as shown:
    assert ("rich" in sys.modules) == (sys.argv[1] == "terminal")
    for _ in range(4):
        shown.advance()
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still at `clock[0]`."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_say_rate_and_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scan", 100, "images") as shown:
        clock[0] += 1
        shown.advance(10)
        assert not capsys.readouterr().err
        clock[0] += progress.PLAIN_SECONDS - 1
        shown.advance(15)
        assert capsys.readouterr().err == "scan: 25/100 images, 5.0 images/s, 15 s left\n"
        clock[0] += 1
        shown.advance(75)
    assert capsys.readouterr() == ("", "scan: 100/100 images, 16.7 images/s\n")


def test_failed_work_has_no_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), Progress("scan", 2, "images") as shown:
        shown.advance()
        raise ValueError
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal_alone() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", WORK, "terminal"], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert "4/4" in drawn and "images/s" in drawn and "scan" in drawn
    plain = subprocess.run([sys.executable, "-c", WORK, "plain"], capture_output=True, text=True, check=True)
    assert plain.stderr.startswith("scan: 4/4 images, ") and not plain.stdout
