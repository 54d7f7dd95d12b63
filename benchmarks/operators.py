"""What torch.profiler says of the production step: seconds and calls by operator, and what is left of the
host's time without them.
"""

import time
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.step import Ours, Setting, configuration
from chexdist.gan.models.spec import Spec

HOST_IMAGES = 64
"""Images of the rank whose host time is measured."""


@dataclass(frozen=True)
class Operator:
    """Of one batch: seconds of its own (on a GPU the device's), without those of operators that it calls, and
    calls.
    """

    seconds: float
    calls: float


def by_operator(training: Ours, of_device: bool) -> tuple[dict[str, Operator], float]:
    """Operators of a period by name, and seconds of the host, all of one batch on average.

    Args:
        of_device: count a GPU's seconds, where there is one; else the host's.
    """
    on_gpu = training.images.is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu and of_device else [])]
    with profile(activities=activities) as seen:
        begun = time.perf_counter()
        for _ in range(training.period):
            training.train()
        host = time.perf_counter() - begun
        if on_gpu:
            torch.cuda.synchronize()
    found = {}
    for event in seen.key_averages():
        # autograd's and optimizers' ranges are no operators; a GPU's kernels count with what launched them
        if event.device_type != DeviceType.CPU or "::" not in event.key or event.key.startswith("autograd::"):
            continue
        micros = event.self_device_time_total if on_gpu and of_device else event.self_cpu_time_total
        found[event.key] = Operator(micros / 1e6 / training.period, event.count / training.period)
    return found, host / training.period


class _Drawn(nn.Module):
    """A generator that draws one gray level."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.size, self.level = spec.size, nn.Parameter(torch.zeros(1))

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        return self.level.expand(len(latent), 1, self.size, self.size)


class _Looked(nn.Module):
    """A critic that looks at one pixel."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        return image[:, 0, 0, 0] * self.weight


def without_networks(name: str, setting: Setting, pixels: Tensor) -> Ours:
    """A shipped configuration on a rank with HOST_IMAGES images, whose networks do nothing."""
    config = configuration(name, Setting(HOST_IMAGES, setting.more))
    families = {config.model.name: SimpleNamespace(Generator=_Drawn, Critic=_Looked)}
    with patch("chexdist.training.networks.FAMILIES", families):
        return Ours(config, pixels)


def host_time(training: Ours, rounds: int) -> tuple[float, float]:
    """Seconds of the host in a batch outside operators: between these two.

    The profiler costs time, within operators and outside. So what is left of a batch of its own is too much,
    and what is left of an unwatched batch is too little. The least of so many periods: whatever else the
    machine does is added to the host's time.
    """
    by_operator(training, of_device=False)  # loads the profiler
    watched, operators, alone = [], [], []
    for _ in range(rounds):
        found, host = by_operator(training, of_device=False)
        watched.append(host)
        operators.append(sum(each.seconds for each in found.values()))
        begun = time.perf_counter()
        for _ in range(training.period):
            training.train()
        alone.append((time.perf_counter() - begun) / training.period)
        if training.images.is_cuda:
            torch.cuda.synchronize()
    too_much = min(all_of_it - within for all_of_it, within in zip(watched, operators, strict=True))
    too_little = max(0.0, min(alone) - min(operators))
    return min(too_little, too_much), max(too_little, too_much)
