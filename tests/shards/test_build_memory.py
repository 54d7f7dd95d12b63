"""A build states the memory that it needs, keeps to it in a control group, and refuses to begin with less."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.xray_files import contents, dicom, smooth, write_dicom
from PIL import Image

from shards import memory
from shards.errors import UserError
from shards.memory import MB, check_memory, max_picture, memory_there, need
from shards.sources.listing import Source, list_class_folders

FILES, SIDE = 240, 1024
SECONDS = 240.0


def source(path: Path) -> Source:
    return Source(0, path.name, str(path), "a")


def test_the_need_is_by_worker_and_by_the_largest_picture(tmp_path: Path) -> None:
    """80 MB and 2 kB a file; of each worker 100 MB, 14 bytes a gray pixel, 28 a coloured one."""
    write_dicom(tmp_path / "a.dcm", dicom(np.zeros((300, 200), np.uint16)))
    Image.new("L", (400, 400)).save(tmp_path / "b.png")
    files = [source(path) for path in sorted(tmp_path.iterdir())]
    assert max_picture(files[:1]) == 14 * 300 * 200
    assert max_picture(files) == 14 * 400 * 400
    Image.new("RGB", (400, 300)).save(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").write_bytes(b"no picture" * 9999)
    files = [source(path) for path in sorted(tmp_path.iterdir())]
    assert max_picture(files) == 28 * 400 * 300
    assert need(1000, 3, 5 * MB) == 80 * MB + 2 * MB + 3 * (100 * MB + 5 * MB)


def test_too_many_workers_are_refused_with_how_many_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "_own_memory", lambda: 0)
    monkeypatch.setattr(memory, "free_memory", lambda: 400 * MB)
    check_memory([], 3, memory_there())
    with pytest.raises(
        UserError, match="480 MB may be needed with --workers 4.* 400 MB .*--workers 3 or more"
    ):
        check_memory([], 4, memory_there())
    monkeypatch.setattr(memory, "free_memory", lambda: 100 * MB)
    check_memory([], 1, memory_there())
    assert "180 MB may be needed with --workers 1" in capsys.readouterr().err
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    check_memory([], 1000, memory_there())


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Uncompressed DICOM files of SIDE px, no two equal."""
    for number in range(FILES):
        levels = (smooth(number, SIDE, SIDE) * 4095).astype(np.uint16)
        write_dicom(tmp_path / "sources" / "ab"[number % 2] / f"{number:04}.dcm", dicom(levels, bits=12))
    return tmp_path / "sources"


def start(group: Path, limit: int, sources: Path, out: Path, workers: int) -> "subprocess.Popen[str]":
    """A build in the group, whose limit is set before."""
    (group / "memory.force_empty").write_text("0")  # file pages of the build before
    (group / "memory.limit_in_bytes").write_text(str(limit))
    build = [sys.executable, "-m", "shards", "build", sources, "--out", out, "--size", "64"]
    build += ["--workers", workers, "--patient-pattern", "(.+)"]
    enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
    command = ["sh", "-c", enter, "sh", *map(str, build)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(group: Path) -> int:
    """How many processes the kernel ended for want of memory."""
    return int((group / "memory.oom_control").read_text().split()[-1])


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    error = process.communicate(timeout=SECONDS)[1]
    return process.returncode, error


@pytest.mark.slow
def test_a_build_keeps_to_its_need_and_goes_on_with_fewer_workers(
    group: Path, sources: Path, tmp_path: Path
) -> None:
    images = list_class_folders([sources]).images
    needed = need(FILES, 2, max_picture(images))
    enough, short = int(1.1 * needed), int(0.9 * needed)
    assert ended(start(group, enough, sources, tmp_path / "whole", 2))[0] == 0
    assert killed(group) == 0

    out, work = tmp_path / "out", tmp_path / "out.work"
    shutil.copy(tmp_path / "whole.key", tmp_path / "out.key")
    process = start(group, enough, sources, out, 2)
    while not any(path.stat().st_size for path in work.glob("scan-*/*.scanned")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 1

    code, error = ended(start(group, short, sources, out, 2))
    assert code == 2 and len(error.strip().splitlines()) == 1, error
    assert "memory: " in error and "--workers 1 or more memory" in error
    assert "Traceback" not in error and not out.exists()

    code, error = ended(start(group, short, sources, out, 1))
    assert code == 0 and "images are known from before" in error, error
    assert contents(tmp_path / "whole") == contents(out)
