"""Decides how a user's file becomes a network, so that none can run code of its own: it is data, or refused.

TorchScript, torch.export and safetensors files are recognised by their content. Pickles are refused: reading
one can run anything.
"""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractors import exported, torchscript, weights
from chexdist.metrics.extractors.spec import FileSpec

MOST_BYTES = 4 << 30
MOST_FEATURES = 1 << 16
CURE = "give TorchScript, a torch.export .pt2, or safetensors with arch=NAME"


def load(spec: FileSpec) -> tuple[str, str, nn.Module]:
    """Name, SHA-256 of the file, and the network, in evaluation mode on the CPU.

    The name is what the file holds with eight digits of its digest, so that it does not depend on where the
    file lies.

    Raises:
        UserError: the file can't be read, is of no such kind, or holds what could run code.
    """
    content = _read(spec.file)
    digest = hashlib.sha256(content).hexdigest()
    kind, network = _network(spec, content)
    return f"{kind}-{digest[:8]}", digest, FileNetwork(network.eval(), str(spec.file))


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise UserError(f"extractor {path}: no such file")
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"extractor {path} is larger than {MOST_BYTES >> 30} GiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"extractor {path}: {error}") from None


def _network(spec: FileSpec, content: bytes) -> tuple[str, nn.Module]:
    path = spec.file
    if content[:4] == b"PK\x03\x04":
        if spec.arch:
            raise UserError(f"extractor {path} holds a network of its own: leave out arch={spec.arch}")
        records = _records(path, content)
        if any(name.startswith("code/") for name in records):
            return torchscript.KIND, torchscript.load(path, records)
        if exported.MODEL in records:
            return exported.KIND, exported.load(path, records)
    elif weights.is_safetensors(content):
        return spec.arch, weights.load(path, content, spec.arch)
    raise UserError(
        f"extractor {path} is none of the files that can be read without running code in them (a pickled "
        f"model or state_dict is not); {CURE}"
    )


def _records(path: Path, content: bytes) -> dict[str, bytes]:
    """What a zip holds by name, without the folder that all of it is in.

    Raises UserError where it is damaged or unpacks to far more than it is.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if sum(member.file_size for member in members) > 4 * len(content) + (1 << 26):
                raise UserError(f"extractor {path} unpacks to far more bytes than it has")
            return {member.filename.partition("/")[2]: archive.read(member) for member in members}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise UserError(f"extractor {path} is damaged: {error}") from None


class FileNetwork(nn.Module):
    """A user's network, whose output is checked and flattened: images [N, C, S, S] to features [N, D]."""

    def __init__(self, network: nn.Module, path: str) -> None:
        super().__init__()
        self.network, self.path = network, path

    def forward(self, images: Tensor) -> Tensor:
        """Maps [N, C, H, W] are averaged over H and W.

        Raises:
            UserError: the network fails, or gives no finite features, as many for each image.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                features = self.network(images)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "it fails")
            raise UserError(
                f"extractor {self.path} can't take images {list(images.shape)}: {reason.strip()[:300]}; its "
                "size and channels must be those that it was made for"
            ) from None
        if not isinstance(features, Tensor):
            raise UserError(
                f"extractor {self.path} gives a {type(features).__name__}: export it so that it gives one "
                "tensor of features"
            )
        if features.ndim == 4:
            features = features.float().mean((2, 3))
        if features.ndim != 2 or len(features) != len(images) or not 1 < features.shape[1] <= MOST_FEATURES:
            raise UserError(
                f"extractor {self.path} gives {list(features.shape)} of {len(images)} images, not features "
                f"[N, D] with D up to {MOST_FEATURES}, nor maps [N, C, H, W]"
            )
        if not bool(torch.isfinite(features).all()):
            raise UserError(
                f"extractor {self.path} gives features that are not finite: is its range the one that it was "
                "made for?"
            )
        return features.float()
