"""The search for near-duplicates gives one answer, with any number of workers, and after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import smooth

from shards.copies import linking
from shards.copies.fingerprint import fingerprint
from shards.copies.linking import pairs
from shards.copies.search import search
from shards.workers import Workers

COUNT, AT_ONCE = 12, 4
KILLED = """
import sys
from pathlib import Path
import numpy as np
from shards.copies import linking
from shards.copies.search import search
from shards.workers import Workers
if __name__ == "__main__":
    linking.CHUNK = 1, 1
    prints = np.load(sys.argv[1])
    with Workers(1) as workers:
        search(workers, Path(sys.argv[2]), map(bytes, prints), len(prints))
"""


@pytest.fixture
def prints() -> np.ndarray:
    """Of COUNT pictures and of the same pictures, mirrored."""
    fields = [smooth(seed, 96, 96).astype(np.float32) for seed in range(COUNT)]
    return np.stack([fingerprint(field) for field in [*fields, *(field[:, ::-1] for field in fields)]])


def test_workers_find_what_one_process_finds(
    prints: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(linking, "CHUNK", (AT_ONCE, AT_ONCE))
    expected = pairs(prints)
    assert {(number, COUNT + number) for number in range(COUNT)} <= set(expected)
    for count in (1, 2):
        with Workers(count) as workers:
            assert search(workers, tmp_path / str(count), map(bytes, prints), len(prints)) == expected
    assert f"near-duplicates: {2 * COUNT}/{2 * COUNT} images" in capsys.readouterr().err
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "12"
    )
    assert first == second and len(list(tmp_path.glob("1/*.json"))) == 2 * COUNT / AT_ONCE


def test_a_killed_search_goes_on_where_it_was(
    prints: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "prints.npy", prints)
    (tmp_path / "killed.py").write_text(KILLED)
    folder = tmp_path / "search"
    command = [sys.executable, tmp_path / "killed.py", tmp_path / "prints.npy", folder]
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    deadline = time.monotonic() + 120
    while not list(folder.glob("*.json")):
        assert time.monotonic() < deadline and process.poll() is None, "the search found nothing"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # its worker ends with it
    done = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 0 < len(done) < len(prints)
    monkeypatch.setattr(linking, "CHUNK", (1, 1))
    with Workers(1) as workers:
        found = search(workers, folder, iter(()), len(prints))  # the fingerprints are there
    left = len(prints) - len(done)
    assert f"near-duplicates: {left}/{left} images" in capsys.readouterr().err
    assert done == {path: path.stat().st_mtime_ns for path in done}
    assert found == pairs(prints)
