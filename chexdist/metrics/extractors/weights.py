"""Reads safetensors: the weights of a torchvision classifier, whose last linear layer is left out."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import nn

from chexdist.errors import UserError

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Classifiers of Inception and GoogLeNet that only training uses."""


def is_safetensors(content: bytes) -> bool:
    """Whether it begins like one: the header's length, then a JSON object of that length."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(len(content) - 8, 100_000_000):
        return False
    try:
        return isinstance(json.loads(content[8 : 8 + length]), dict)
    except (ValueError, RecursionError):
        return False


def load(path: Path, content: bytes, arch: str) -> nn.Module:
    """The network of an architecture with these weights, from images to what its classifier would take.

    Raises:
        UserError: there is no such architecture, or the weights are not of it.
    """
    from torchvision import models  # here, since it takes seconds to import and few need it

    known = models.list_models(module=models)
    if arch not in known:
        raise UserError(
            f"extractor {path} holds weights alone: say arch=NAME, one of torchvision's: {', '.join(known)}"
        )
    aux = {"init_weights": False} if arch in ("inception_v3", "googlenet") else {}
    network = models.get_model(arch, weights=None, **aux)
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"extractor {path}: {arch} ends in no linear layer, so it has no features before one")
    network.set_submodule(linear[-1], nn.Identity())
    for name in AUXILIARY:
        if hasattr(network, name[:-1]):
            setattr(network, name[:-1], None)
    try:
        state = from_bytes(content)
        left_out = (f"{linear[-1]}.", *AUXILIARY)
        network.load_state_dict({name: each for name, each in state.items() if not name.startswith(left_out)})
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"extractor {path} holds no weights of torchvision's {arch}: {reason}") from None
    return network
