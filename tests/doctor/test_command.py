"""The command itself: as a process, on a terminal, and with packages that break."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.doctors import faults, run_ranks, words

BROKEN = 'raise RuntimeError("operator torchvision::nms does not exist\\nand so on")\n'
DYING = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"


def command(given: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chexdist", *given],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (BROKEN, "torchvision can't be imported: RuntimeError: operator torchvision::nms does not exist"),
        pytest.param(
            DYING,
            "torchvision can't be imported: the import ended its process with code -9",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_torchvision_of_another_torch(module: str, said: str, tmp_path: Path) -> None:
    """The registry's with a CPU-only torch fails at import; it must not take the doctor along."""
    (tmp_path / "torchvision.py").write_text(module)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = command(["doctor"], PYTHONPATH=path.rstrip(":"))
    (fault,) = faults(done.stdout.splitlines())
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert fault.startswith(f"torchvision: {said}")
    assert "pip install --force-reinstall torch torchvision, both from one index" in fault


def timed(words: list[str]) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Seconds of processor time that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command(words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


def test_a_thousand_ranks_on_a_hundred_thousand_samples(many: Path) -> None:
    """In under 10 s: of processor time, above that of the same command for one rank."""
    given = ["doctor", "--config", "dcgan", "--train.batch", "8192", "--data.shards", str(many)]
    alone, _ = timed(given)
    simulated, done = timed([*given, "--simulate-world", "1024"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,024 ranks read each of 100,000 samples exactly once an epoch" in done.stdout
    assert "rank 1023: images 8,184 to 8,191 of each batch" in done.stdout
    assert "EXTRAPOLATED" in done.stdout and "ASSUMED" in done.stdout
    print(f"{alone:.1f} s, and {simulated:.1f} s with the simulation")
    assert simulated - alone < 10


def test_a_table_on_a_terminal(shards: Path, tmp_path: Path) -> None:
    """Brackets in a path are no markup."""
    given = words(shards, tmp_path / "[red]run[/red]")
    code, logs = run_ranks(tmp_path, [given], [tmp_path], FORCE_COLOR="1", COLUMNS="300")
    assert code == [0] and "┏" in logs[0] and "[red]run[/red]" in logs[0]
