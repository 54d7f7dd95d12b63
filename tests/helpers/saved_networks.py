"""Small networks, saved in the ways in which users bring an extractor."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

SIDE = 32
LIKE = f"size={SIDE},range=-1..1"


class Small(nn.Module):
    """Maps [N, 6, 4, 4], by a batch norm whose statistics matter and a view that needs contiguous memory."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.parts = nn.Sequential(nn.ReLU(), nn.AvgPool2d(4))
        nn.init.uniform_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts(self.norm(self.conv(x)))
        return x.view(x.shape[0], -1).view(x.shape)


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(3)
    return Small(channels).eval()


def script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), path)
    return path


def traced(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, torch.rand(2, 3, SIDE, SIDE)), path)
    return path


def exported(module: nn.Module, path: Path, batch: int | None = None) -> Path:
    free = {"x": {0: torch.export.Dim("batch", min=1, max=512)}} if batch is None else None
    program = torch.export.export(module, (torch.rand(batch or 2, 3, SIDE, SIDE),), dynamic_shapes=free)
    torch.export.save(program, path)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "script": lambda folder: script(network(), folder / "a.pt"),
    "trace": lambda folder: traced(network(), folder / "a.pt"),
    "export": lambda folder: exported(network(), folder / "a.pt2"),
    "export, batches of 3": lambda folder: exported(network(), folder / "a.pt2", 3),
}
