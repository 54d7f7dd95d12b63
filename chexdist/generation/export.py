"""How a generator leaves as one file: its weights, or a program that runs without chexdist; with a card.

safetensors holds weights and batch statistics, and chexdist reads it back. ONNX and torch.export hold the
network too: inputs `latents` [n, latent] float32 and, by class, `labels` [n] int64; output `images`
[n, 1, size, size] in [-1, 1]; any n. A label that does not exist gives them an image of no class, not an
error."""

import importlib
import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from chexdist import __version__
from chexdist.config.load import PATHS
from chexdist.config.rules import frozen
from chexdist.errors import UserError
from chexdist.generation.card import card, measured
from chexdist.generation.pictures import STATEMENT
from chexdist.run import layout
from chexdist.run.exported import SUFFIX, Origin
from chexdist.run.log import read_log
from chexdist.run.trained import Loaded

MOST_BYTES = 2**31 - 2**24
"""Of weights in an ONNX file, which is one protobuf message of less than 2 GiB."""

Facts = Mapping[str, str]


def facts(loaded: Loaded, licence: str) -> dict[str, str]:
    """What each exported file says of itself, all of it strings."""
    settings = {key: value for key, value in frozen(loaded.config).items() if key not in PATHS}
    origin = Origin(settings, loaded.classes, loaded.images, loaded.manifest)
    model = loaded.config.model
    log = read_log(loaded.run) if loaded.run and (loaded.run / layout.LOG).is_file() else []
    return origin.metadata() | {
        "chexdist": __version__,
        "about": STATEMENT,
        "latent": str(model.latent),
        "size": str(model.size),
        "conditional": "true" if model.conditional else "false",
        "weights": loaded.weights,
        "licence": licence,
        "model_card": card(loaded, measured(log, loaded.images), licence),
    }


def safetensors(loaded: Loaded, said: Facts) -> bytes:
    """Weights and batch statistics by name, `said` as the header's metadata."""
    network = loaded.generator
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    content = to_bytes({name: each.detach().contiguous() for name, each in tensors.items()})
    length = int.from_bytes(content[:8], "little")
    header = {"__metadata__": dict(said), **json.loads(content[8 : 8 + length])}
    encoded = json.dumps(header).encode()  # the library would put the metadata in a random order
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]


def torch_export(loaded: Loaded, said: Facts) -> bytes:
    """An archive for torch.export.load; `said` is its extra file metadata.json, the card model_card.md."""
    buffer = io.BytesIO()
    extra = {"metadata.json": json.dumps(said, indent=1), "model_card.md": said["model_card"]}
    torch.export.save(_program(loaded), buffer, extra_files=extra)
    return buffer.getvalue()


def onnx(loaded: Loaded, said: Facts) -> bytes:
    """One ONNX model; `said` is its metadata_props.

    Raises:
        UserError: packages are missing, or the weights are too large for one file.
    """
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--format onnx needs the package {error.name}: run `pip install 'chexdist[export]'`"
        ) from None
    size = sum(each.numel() * each.element_size() for each in loaded.generator.parameters())
    if size > MOST_BYTES:
        raise UserError(
            f"--format onnx: {size / 2**30:.1f} GiB of weights, and one ONNX file holds less than 2; export "
            "them as safetensors or torch-export"
        )
    program = _program(loaded)
    names = [name for name, _ in _inputs(loaded)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        exported = torch.onnx.export(
            program, dynamo=True, input_names=names, output_names=["images"], verbose=False
        )
    assert exported is not None
    return _marked(exported.model_proto, said)


FORMATS: dict[str, tuple[str, Callable[[Loaded, Facts], bytes]]] = {
    "safetensors": (SUFFIX, safetensors),
    "onnx": (".onnx", onnx),
    "torch-export": (".pt2", torch_export),
}
"""The ending of the file's name, and its content."""


def _inputs(loaded: Loaded) -> list[tuple[str, Tensor]]:
    """Two of each; a size of 1 would be taken for a constant."""
    latents = ("latents", torch.zeros(2, loaded.config.model.latent))
    return [latents, ("labels", torch.zeros(2, dtype=torch.int64))][: 1 + loaded.config.model.conditional]


def _program(loaded: Loaded) -> torch.export.ExportedProgram:
    """The network for any number of images, without the paths of source files on this machine."""
    module = (_ByClass if loaded.config.model.conditional else _WithoutClasses)(loaded.generator)
    module.eval().requires_grad_(False)
    inputs = tuple(value for _, value in _inputs(loaded))
    n = torch.export.Dim("n", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, inputs, dynamic_shapes=({0: n},) * len(inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


class _ByClass(nn.Module):
    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return self.generator(latents, labels)


class _WithoutClasses(nn.Module):
    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents, torch.zeros(0, dtype=torch.int64))


def _marked(model: Any, said: Facts) -> bytes:
    """An ONNX model with our metadata; its free size is called n."""
    del model.graph.value_info[:]  # optional, and it has the size's other name
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "n"
    model.doc_string = said["model_card"]
    for name, value in said.items():
        model.metadata_props.add(key=name, value=value)
    return model.SerializeToString()
