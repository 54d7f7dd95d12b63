"""Decides what `train.precision: auto` is on a device: bf16 where it computes convolutions natively, else
float32.

The answer for a CPU is measured once, in a second, and remembered in `chexdist/bf16.json` of the user's
folder for caches ($XDG_CACHE_HOME or ~/.cache)."""

import json
import platform
import time
from contextlib import suppress
from pathlib import Path

import torch

from chexdist.config.tree import Config
from chexdist.data.user_cache import user_cache
from shards.files import replace_file

CONVOLVED = 8, 64, 32, 32
"""The activations that are timed: images, channels, height, width."""
REPEATS = 3
WORTH_IT = 1.2
"""How much faster bf16 must be: emulated, it is slower, and a few per cent are not worth its rounding."""


def automatic(device: torch.device) -> str:
    """The value of `train.precision` for this device: `bf16` or `no`."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "no"  # Ampere and newer
    return "bf16" if remembered_gain(device) >= WORTH_IT else "no"


def with_precision(config: Config, precision: str) -> Config:
    """The configuration with this in place of `auto`."""
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def remembered_gain(device: torch.device) -> float:
    """`bf16_gain`, measured once for each machine, torch build and number of threads."""
    file = user_cache() / "bf16.json"
    key = f"{_processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    known = _known(file)
    if key not in known:
        known[key] = round(bf16_gain(device), 2)
        with suppress(OSError):  # it is measured again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, json.dumps(known, indent=1))
    return known[key]


def _known(file: Path) -> dict[str, float]:
    """What was measured before; nothing where the file is not there or was not written by this."""
    try:
        found = json.loads(file.read_text())
        return {str(key): float(gain) for key, gain in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def bf16_gain(device: torch.device) -> float:
    """How many times faster a 3 x 3 convolution and its backward pass are in bf16 than in float32; takes a
    second.
    """
    return _seconds(device, torch.float32) / _seconds(device, torch.bfloat16)


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The least of a few runs, after one that loads what is needed."""
    generator = torch.Generator(device).manual_seed(0)
    count, channels, height, width = CONVOLVED
    images = torch.rand(count, channels, height, width, device=device, generator=generator).to(
        dtype, memory_format=torch.channels_last
    )
    weights = torch.rand(channels, channels, 3, 3, device=device, generator=generator).to(
        dtype, memory_format=torch.channels_last
    )
    images.requires_grad_()
    weights.requires_grad_()
    measured = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        torch.nn.functional.conv2d(images, weights, padding=1).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        measured.append(time.perf_counter() - begun)
    return min(measured[1:])


def _processor() -> str:
    """The model's name and what it can do, as far as the system says so: virtual machines share names."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    lines = dict(line.partition(":")[::2] for line in text.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in lines.items()}
    units = [
        flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "")
    ]
    return " ".join([facts.get("model name", platform.machine()), *units])
