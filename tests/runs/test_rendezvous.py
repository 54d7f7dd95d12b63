"""A store that takes connections and then answers nothing, as behind a cut link: a rank gives up in time."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import jobs

from chexdist.distributed import process_group

TIMEOUT = 5
STORE = """
import os, signal
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
store.wait(["device/1"])
print("joined", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def store() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.timeout(120)
def test_a_store_that_stops_answering(store: subprocess.Popen[str], shards: Path, tmp_path: Path) -> None:
    assert store.stdout
    port = store.stdout.readline().strip()
    joined = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    words = jobs.small(shards, tmp_path / "run", "vanilla", "--control.timeout", str(TIMEOUT))
    with jobs.true_command(words, **joined, MASTER_PORT=port) as rank:
        assert store.stdout.readline().strip() == "joined"
        try:
            _, said = rank.communicate(timeout=TIMEOUT + process_group.SECONDS_TO_SAY + 10)
        finally:
            rank.kill()
    assert rank.returncode == 1 and "Traceback" not in said, said
    assert f"the 2 ranks did not all join within {TIMEOUT} s" in said
