"""A build that was killed resumes from its journal, to the same bytes; inputs that kill workers are named."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.xray_files import class_folders, contents, write_png

from shards import manifest, workers
from shards.__main__ import main
from shards.journal import records

KEY = "ab" * 32
PATTERN = ["--patient-pattern", "^([0-9]+)_"]


def words(source: Path, out: Path, size: int = 16, count: int = 1) -> list[str]:
    Path(f"{out}.key").write_text(KEY)
    options = ["--size", str(size), "--workers", str(count), "--samples-per-shard", "12", *PATTERN]
    return ["build", str(source), "--out", str(out), *options]


def start(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "shards", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def scanned(work: Path) -> int:
    return sum(len(list(records(folder))) for folder in work.glob("scan-*"))


def killed(source: Path, out: Path, least: int = 10) -> int:
    """Kill a build once `least` images are scanned; how many were when it had ended."""
    process = start(words(source, out, 512))
    deadline = time.monotonic() + 120
    while scanned(Path(f"{out}.work")) < least:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    time.sleep(0.3)  # its workers end
    return scanned(Path(f"{out}.work"))


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = class_folders(tmp_path / "in", 40, 2)
    assert main(words(source, tmp_path / "whole", 512)) == 0
    known = killed(source, tmp_path / "out")
    assert 10 <= known < 80 and not (tmp_path / "out").exists()
    capsys.readouterr()
    assert main(words(source, tmp_path / "out", 512, count=2)) == 0
    assert f"{known} of 80 images are known" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out.work").exists()


def test_a_file_that_changed_is_scanned_again(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 40, 2)
    killed(source, tmp_path / "out", 20)
    for number in range(6):  # other pictures under the same names, of the same size and times
        for image in sorted((source / "Finding").iterdir())[number : number + 1]:
            size, times = image.stat().st_size, image.stat()
            write_png(image, 1000 + number)
            data = image.read_bytes()
            assert abs(len(data) - size) < 400
            image.write_bytes(data.ljust(size, b"\0"))
            os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert main(words(source, tmp_path / "out", 512)) == 0
    assert main(words(source, tmp_path / "whole", 512)) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_options_scan_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = class_folders(tmp_path / "in", 40, 2)
    killed(source, tmp_path / "out", 20)
    assert main(words(source, tmp_path / "out")) == 0
    assert "known from before" not in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_two_builds_of_one_directory_at_once_are_refused(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 40, 2)
    first = start(words(source, tmp_path / "out", 512))
    while not (tmp_path / "out.work/lock").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    second = start(words(source, tmp_path / "out", 512))
    assert "another build is making" in second.communicate(timeout=120)[1] and second.returncode == 2
    first.communicate(timeout=120)
    assert first.returncode == 0


def test_another_allowance_completes_without_another_scan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = class_folders(tmp_path / "in", 12)
    (source / "Finding" / "bad.png").write_bytes(b"junk")
    arguments = ["build", str(source), "--out", str(tmp_path / "out"), "--size", "16", "--workers", "1"]
    assert main(arguments) == 1
    built = contents(tmp_path / "out")
    assert main(arguments) == 1
    capsys.readouterr()
    assert main([*arguments, "--allow-quarantine", "1"]) == 0
    assert "scan" not in capsys.readouterr().err
    assert contents(tmp_path / "out") == built and not (tmp_path / "out.work").exists()
    assert main(arguments) == 2  # finished: as any folder that is not empty


def test_another_request_for_a_directory_that_is_there_is_refused(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 12)
    (source / "Finding" / "bad.png").write_bytes(b"junk")
    arguments = ["build", str(source), "--out", str(tmp_path / "out"), "--size", "16", "--workers", "1"]
    assert main(arguments) == 1
    assert main([*arguments, "--seed", "1", "--allow-quarantine", "1"]) == 2
    write_png(source / "Finding" / "new.png", 99)
    assert main([*arguments, "--allow-quarantine", "1"]) == 2


DEADLY = """
import os, sys
import shards.scan
read = shards.scan.render_file

def render_file(path, *rest):
    if path.endswith("deadly.png"):
        os.kill(os.getpid(), 9)
    return read(path, *rest)

shards.scan.render_file = render_file
"""


def test_an_input_that_kills_its_worker_is_set_aside_by_name(tmp_path: Path) -> None:
    """`sitecustomize` stands in for a decoder that crashes, or the kernel that finds memory short."""
    source = class_folders(tmp_path / "in", 20, 2)
    write_png(source / "Finding" / "0000_deadly.png", 500)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(DEADLY)
    path = f"{tmp_path / 'site'}:{os.getcwd()}"
    process = start(words(source, tmp_path / "out", 16, count=2), PYTHONPATH=path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in errors, errors
    assert "crashed 1" in errors
    assert "0,Finding/0000_deadly.png,crashed," in (tmp_path / "out.quarantine.csv").read_text()
    (source / "Finding" / "0000_deadly.png").write_bytes(b"")
    result = manifest.read(tmp_path / "out")
    assert sum(split.samples for split in result.splits.values()) == 40
    assert result.quarantine == {"total": 1, "codes": {"crashed": 1}}


KILLED_WHILE_WRITING = """
import os
import shards.write
write = shards.write._write_tar

def _write_tar(stream, task):
    checksums = write(stream, task)
    try:
        os.mkdir("MARK")
    except FileExistsError:
        return checksums
    os.kill(os.getpid(), 9)

shards.write._write_tar = _write_tar
"""


def test_a_worker_killed_while_it_writes_leaves_nothing_in_the_set(tmp_path: Path) -> None:
    source = class_folders(tmp_path / "in", 20, 2)
    assert main(words(source, tmp_path / "whole")) == 0
    (tmp_path / "site").mkdir()
    code = KILLED_WHILE_WRITING.replace("MARK", str(tmp_path / "killed"))
    (tmp_path / "site/sitecustomize.py").write_text(code)
    path = f"{tmp_path / 'site'}:{os.getcwd()}"
    process = start(words(source, tmp_path / "out", count=2), PYTHONPATH=path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and (tmp_path / "killed").exists(), errors
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def square(number: int) -> int:
    return number * number


def fatal(number: int) -> bytes:
    """Half an answer of a million bytes, then death, for some; what an executor waits for for ever."""
    if number % 5 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes(1_000_000)


def test_workers_that_die_are_reported_by_task_and_replaced() -> None:
    with workers.Workers(2) as pool:
        found = {task: result for task, result in pool.each(fatal, range(10))}
        assert [isinstance(found[task], workers.Died) for task in range(10)] == [
            n % 5 == 3 for n in range(10)
        ]
        assert dict(pool.each(square, range(4))) == {0: 0, 1: 1, 2: 4, 3: 9}


@pytest.mark.slow
def test_killed_at_twenty_moments_in_turn(tmp_path: Path) -> None:
    """Each trial kills two starts at random moments, in other zones and locales, then lets one end."""
    source = class_folders(tmp_path / "in", 40, 2)
    begun = time.monotonic()
    whole = start(words(source, tmp_path / "whole", 256))
    assert (whole.communicate(), whole.returncode)[1] == 0
    seconds, rng, kills, trial = time.monotonic() - begun, random.Random(7), 0, 0
    while kills < 20:
        out, trial = tmp_path / f"out{trial}", trial + 1
        for left in (2, 1, 0):
            zone = {"TZ": rng.choice(["UTC", "Asia/Tokyo"]), "LC_ALL": rng.choice(["C", "C.UTF-8"])}
            process = start(words(source, out, 256, count=rng.choice([1, 2, 3])), **zone)
            try:
                said = process.communicate(timeout=rng.uniform(0.1, seconds) if left else None)
                assert process.returncode == 0, said
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                if out.exists() and not Path(f"{out}.work").exists():
                    break  # it was done, and only its process had not ended
        assert main(["verify", str(out)]) == 0
        assert contents(out) == contents(tmp_path / "whole")
        assert not Path(f"{out}.work").exists()
