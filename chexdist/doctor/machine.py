"""What this rank computes with: devices, cores, threads, memory, and whether bf16 is fast here or
emulated.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from chexdist.config.tree import Config
from chexdist.doctor.finding import Note, amount, counted

if TYPE_CHECKING:
    import torch


def check_devices(note: Note, device: "torch.device", ranks_here: int) -> None:
    """GPUs that torch sees against those that are there, and against the ranks of this node; cores against
    threads.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(gpus):
        card = torch.cuda.get_device_properties(number)
        note.ok(f"GPU {number}: {card.name}, {amount(card.total_memory)}")
    there = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") is not None
    if there and not gpus and not hidden:
        note.fault(
            f"this machine has {counted(there, 'NVIDIA GPU')}, torch {torch.__version__} sees none",
            "install a driver for CUDA " + (torch.version.cuda or "and a torch built with CUDA"),
        )
    if device.type == "cuda" and ranks_here > gpus:
        note.fault(
            f"{counted(ranks_here, 'rank')} on this node, but {counted(gpus, 'GPU')}",
            "start one rank a GPU, or set ACCELERATE_USE_CPU=true",
        )
    threads, cores = torch.get_num_threads(), usable_cores()
    note.ok(f"computing on {device.type}; {counted(cores, 'core')}, {counted(threads, 'thread')} a rank")
    if ranks_here * threads > cores:
        note.warning(
            f"{counted(ranks_here, 'rank')} of {counted(threads, 'thread')} share {counted(cores, 'core')}",
            f"set OMP_NUM_THREADS={max(1, cores // ranks_here)}",
        )


def check_bf16(note: Note, device: "torch.device", config: Config | None) -> None:
    """A convolution in float32 and in bf16, timed; a warning where the configuration asks for what is slow
    here, or what `auto` is.
    """
    from chexdist.training.precision import automatic, bf16_gain

    gain = bf16_gain(device)
    asked = config is not None and config.train.precision == "bf16"
    if gain < 1 and asked:
        note.warning(
            f"asked for by train.precision, but emulated here: {gain:.2f} x the speed of float32 (a "
            "convolution, measured)",
            "set train.precision no",
        )
    else:
        how = "fast" if gain >= 1 else "emulated"
        auto = f"; train.precision auto is {automatic(device)}" if not asked else ""
        note.ok(f"{how} here: {gain:.2f} x the speed of float32 (a convolution, measured){auto}")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
