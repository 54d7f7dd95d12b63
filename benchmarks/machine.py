"""What a timing depends on: processor, cores, threads, torch, commit, and how busy the machine was."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch

BUSY = 0.5
"""Share of the cores in use beforehand from which timings are marked: something else was running."""


def machine() -> dict[str, Any]:
    """What is written beside the timings."""
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "load": psutil.cpu_percent(interval=1.0) / 100 * cores(),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bf16() -> bool:
    """Whether the device computes in bfloat16; elsewhere it is emulated, and slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(
        {"avx512_bf16", "amx_bf16", "bf16"} & set(_cpuinfo("flags").split() + _cpuinfo("Features").split())
    )


def commit() -> str | None:
    """The source tree's commit, with a + when files differ from it; None outside a repository."""
    here = Path(__file__).parent
    found = [
        subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", "..", ":!results"))
    ]
    return found[0] + ("+" if found[1] else "") if found[0] else None


def _cpuinfo(name: str) -> str:
    """A line of Linux's description of the first core; empty when there is none."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
