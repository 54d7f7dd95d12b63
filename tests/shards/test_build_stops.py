"""A build that is stopped, starved or loses a worker ends with its reason, or recovers, and resumes."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.xray_files import class_folders, contents

from shards.__main__ import main
from shards.stop_signals import ASKING

SMALL = ["--size", "16", "--workers", "1"]


def hear() -> None:
    """A shell's background job ignores SIGINT, one under nohup SIGHUP, and so would what it starts."""
    for number in ASKING:
        signal.signal(number, signal.SIG_DFL)


def run_build(source: Path, out: Path, *options: str, **popen: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "shards", "build", str(source), "--out", str(out), *options]
    popen |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    popen.setdefault("preexec_fn", hear)
    return subprocess.Popen(command, **popen)


def busy_worker(folder: Path) -> int:
    """Wait until a worker of the build of `folder/out` has found something; its process number."""
    deadline = time.monotonic() + 120
    while not (spools := list(folder.glob("out.work/scan-*/*.scanned"))):
        assert time.monotonic() < deadline, "no worker has begun"
        time.sleep(0.02)
    return int(spools[0].name.split("-")[0])


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the write fails in the worker in the same way."""
    source = class_folders(tmp_path / "in", 10)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    process = run_build(source, tmp_path / "out", *SMALL, preexec_fn=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "File too large" in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    process = run_build(source, tmp_path / "out", *SMALL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out.key", "out.quarantine.csv"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can't be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, 4096, 16_384, 65_536, 131_072])
def test_a_disk_that_is_full_gives_the_same_bytes_once_there_is_space(
    free: int, tmp_path: Path, small_disk: Path
) -> None:
    """Wherever the space ends, in journal, fingerprints, tars or manifest: the same line completes it."""
    source, keys = class_folders(tmp_path / "in", 20), ["--key-file", str(tmp_path / "key")]
    (tmp_path / "key").write_text("5e" * 32)
    assert main(["build", str(source), "--out", str(tmp_path / "undisturbed"), *SMALL, *keys]) == 0
    filler = small_disk / "filler"
    space = os.statvfs(small_disk)
    filler.write_bytes(bytes(space.f_bavail * space.f_bsize - free))
    process = run_build(source, small_disk / "out", *SMALL, *keys)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "No space left on device" in errors, errors
    assert "Traceback" not in errors and not (small_disk / "out").exists(), errors
    filler.unlink()
    process = run_build(source, small_disk / "out", *SMALL, *keys)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert contents(small_disk / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("number", "code"), [(number, 130 if number == signal.SIGINT else 1) for number in ASKING]
)
def test_a_stop_leaves_nothing_half_written(tmp_path: Path, number: int, code: int) -> None:
    source = class_folders(tmp_path / "in", 150, 2)
    process = run_build(source, tmp_path / "out", "--size", "1024", "--workers", "1", start_new_session=True)
    busy_worker(tmp_path)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "nothing half-written is left" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.key", "out.work"]
    assert (tmp_path / "out.work").stat().st_mode & 0o777 == 0o700


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "datetime" and "numpy" in sys.modules:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGNUMBER)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_stop_that_an_import_in_c_loses(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """`sitecustomize` sends the signal while numpy's C code imports datetime: an ImportError comes of it."""
    source = class_folders(tmp_path / "in", 3)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(INTERRUPTED_IMPORT.replace("SIGNUMBER", number.name))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{os.getcwd()}"}
    process = run_build(source, tmp_path / "out", *SMALL, env=environment)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code and "Traceback" not in errors, errors
    assert "nothing half-written is left" in errors


def test_a_dead_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 30, 2)
    process = run_build(source, tmp_path / "out", "--size", "512", "--workers", "1")
    os.kill(busy_worker(tmp_path), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out.work").exists() and not list(tmp_path.glob(".out*"))


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 150, 2)
    process = run_build(source, tmp_path / "out", "--size", "1024", "--workers", "1")
    worker = busy_worker(tmp_path)
    deadline = time.monotonic() + 120
    process.kill()
    process.communicate(timeout=120)
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()
    assert not (tmp_path / "out").exists()


def test_no_worker_loads_torch(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 3)
    check = (
        "import sys; from shards.__main__ import main\n"
        "if __name__ == '__main__':\n"
        f"    main({['build', str(source), '--out', str(tmp_path / 'out'), *SMALL]!r})\n"
        "    assert 'torch' not in sys.modules and 'pydicom' not in sys.modules\n"
    )
    (tmp_path / "run.py").write_text(check)
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}  # inherited by the workers
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "webdataset.writer" in imported and "torch.nn" not in imported, done.stderr[-3000:]
