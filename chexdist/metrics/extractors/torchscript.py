"""Reads TorchScript: torch compiles the code in it for an interpreter of its own, which knows no Python.

That interpreter has operators that write files and call other machines. A file that mentions one is refused
before anything of it is loaded, and torch is given an archive rebuilt from the records that were looked at.
"""

import io
import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn

from chexdist.errors import UserError

KIND = "torchscript"
_WORDS = re.compile(rb"\b(save|from_file|load_tensor|classes|PythonOp|IgnoredPythonOp|rpc_\w+)\b")
"""aten::save and aten::from_file open files, prim::rpc_* reach other machines, prim::PythonOp runs Python;
torch.classes has objects of all kinds. Found by listing the operators of torch."""
_BY_NAME = re.compile(rb"\bgetattr\b(?!\([\w.]+, \"\w+\"\))")
"""getattr of what is not written out plainly; TorchScript itself writes getattr(self, "0")."""
_NAMESPACES = re.compile(rb"(?<![.\w])ops\b(?!\.(?:aten|prim)\.)")


def load(path: Path, records: dict[str, bytes]) -> nn.Module:
    """The network of a TorchScript archive's records.

    Raises:
        UserError: it is damaged, or mentions an operator that does more than compute.
    """
    kept = {name: content for name, content in records.items() if not name.endswith(".debug_pkl")}
    for name, content in kept.items():
        found = None
        if name.startswith("code/"):
            found = next(
                filter(None, (rule.search(content) for rule in (_WORDS, _BY_NAME, _NAMESPACES))), None
            )
        elif name.endswith(".pkl"):
            found = re.search(rb"torch\.classes", content)
        if found:
            raise UserError(
                f"extractor {path}: {name} mentions {found[0].decode()!r}, with which TorchScript can do "
                "more than compute; give the network as torch.export or safetensors"
            )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as rebuilt:
        for name, content in kept.items():
            rebuilt.writestr(f"network/{name}", content)
    archive.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that TorchScript will go, in favour of torch.export
            network: nn.Module = torch.jit.load(archive, map_location="cpu")
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"extractor {path} is damaged: {str(error).strip().splitlines()[0][:300]}") from None
    return network
