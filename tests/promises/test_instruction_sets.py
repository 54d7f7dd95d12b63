"""The promises hold under every instruction set that this CPU has: other kernels, which round otherwise."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FOLDER = Path(__file__).parent
FEWEST = 300
"""Tests that must pass; there are over 500."""
AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")


@dataclass(frozen=True)
class InstructionSet:
    """How torch and oneDNN are asked for it, and a part of what oneDNN then says it uses."""

    flags: tuple[str, ...]
    aten: str
    onednn: str
    isa: str

    def environment(self) -> dict[str, str]:
        return {"ATEN_CPU_CAPABILITY": self.aten, "ONEDNN_MAX_CPU_ISA": self.onednn}


SETS = {
    "SSE4.1": InstructionSet(("sse4_1",), "default", "SSE41", "SSE4.1"),
    "AVX2": InstructionSet(("avx2", "fma"), "avx2", "AVX2", "AVX2"),
    "AVX-512": InstructionSet(AVX512, "avx512", "AVX512_CORE", "AVX-512 with AVX512BW"),
    "AVX-512 bf16": InstructionSet((*AVX512, "avx512_bf16"), "avx512", "AVX512_CORE_BF16", "bfloat16"),
    "AMX": InstructionSet((*AVX512, "amx_tile", "amx_bf16"), "avx512", "AVX512_CORE_AMX", "AMX"),
}
PROBE = """
import torch
torch.conv2d(torch.ones(8, 16, 32, 32), torch.ones(16, 16, 3, 3))
print("ATen:", torch.backends.cpu.get_cpu_capability())
"""


def _flags() -> set[str]:
    """What the CPU has, as Linux names it; empty elsewhere, and on other CPUs than x86."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _run(words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in SETS["AVX2"].environment()}
    return subprocess.run(
        [sys.executable, *words],
        cwd=FOLDER.parents[1],
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def _passed(**variables: str) -> int:
    """How many tests of the promises pass; none may fail."""
    selected = ["-m", "not slow and not slurm and not gpu", "-p", "no:cacheprovider", "-q"]
    done = _run(["-m", "pytest", *selected, str(FOLDER)], **variables)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout[-2000:]
    return int(passed[1])


def test_promises_as_the_cpu_is() -> None:
    assert _passed() >= FEWEST


@pytest.mark.parametrize("name", SETS)
def test_promises(name: str) -> None:
    instructions = SETS[name]
    missing = [flag for flag in instructions.flags if flag not in _flags()]
    if missing:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    variables = instructions.environment()
    probe = _run(["-c", PROBE], ONEDNN_VERBOSE="1", **variables)
    assert f"ATen: {instructions.aten.upper()}" in probe.stdout, probe.stdout + probe.stderr
    assert re.search(f"isa:.*{re.escape(instructions.isa)}", probe.stdout), probe.stdout
    assert _passed(**variables) >= FEWEST
