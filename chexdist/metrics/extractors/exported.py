"""Reads torch.export's .pt2: its graph is JSON, which is checked and run here, operator by operator.

torch.export.load itself is not safe with a stranger's file: it unpickles sample inputs and some weights, and
evaluates expressions and guards as Python (torch 2.14, export/pt2_archive/_package.py and
_export/serde/serialize.py). Here nothing is unpickled or evaluated, and only aten operators run.
"""

import json
import math
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chexdist.errors import UserError

KIND = "torch-export"
MODEL = "models/model.json"
SCHEMA = 8
TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""torch._export.serde.schema.ScalarType"""
FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
PLAIN = ("as_int", "as_ints", "as_floats", "as_bool", "as_bools", "as_string", "as_strings")
_OPERATOR = re.compile(r"torch\.ops\.aten\.([a-z_0-9]+)\.([A-Za-z_0-9]+)")
NOT_RUN = ("from_file", "set_", "record_stream")
"""aten operators that open a file or take memory that they are not given."""
ON_NUMBERS: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
} | {"math.trunc": math.trunc, "_operator.and_": operator.and_, "_operator.getitem": operator.getitem}


def load(path: Path, records: dict[str, bytes]) -> nn.Module:
    """The network of the archive's records.

    Raises:
        UserError: it is damaged, of another version, compiled, or uses what is not run here.
    """
    try:
        document = json.loads(records[MODEL])
        if document["schema_version"]["major"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema_version']}; version {SCHEMA} is read")
        return ExportedNetwork(document["graph_module"], _tensors(records))
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        RuntimeError,
    ) as error:
        reason = f"{type(error).__name__}: {error}".removeprefix("ValueError: ")[:300]
        raise UserError(
            f"extractor {path} is no torch.export file that can be read here ({reason}); export it again by "
            "torch.export of torch 2.11 or newer, or give it as TorchScript"
        ) from None


def _tensors(records: dict[str, bytes]) -> dict[str, Tensor]:
    """Weights and constants by their names, copied, so that they own their memory."""
    found = {}
    for table in TABLES:
        folder = table.rpartition("/")[0]
        for name, entry in json.loads(records.get(table, b'{"config": {}}'))["config"].items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise ValueError(f"{name} is pickled")
            found[name] = _tensor(records[f"{folder}/{entry['path_name']}"], entry["tensor_meta"])
    return found


def _tensor(content: bytes, meta: dict[str, Any]) -> Tensor:
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([int(each["as_int"]) for each in meta[key]] for key in ("sizes", "strides"))
    if min([0, *sizes, *strides]) < 0 or len(sizes) != len(strides):
        raise ValueError("a tensor has negative sizes")
    if 0 in sizes:
        return torch.zeros(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    offset = int(meta["storage_offset"]["as_int"])
    reach = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if not 0 <= offset <= reach < len(flat):
        raise ValueError("a tensor reaches outside its file")
    return flat.as_strided(sizes, strides, offset).clone(memory_format=torch.contiguous_format)


class ExportedNetwork(nn.Module):
    """Runs the graph on a batch. `batch`: the only size that it takes, None for any."""

    def __init__(self, module: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        graph, signature = module["graph"], module["signature"]
        self._steps = [_Step(node) for node in graph["nodes"]]
        self._names: dict[str, str] = {}
        inputs = []
        for number, spec in enumerate(signature["input_specs"]):
            (kind, entry) = next(iter(spec.items()))
            if kind == "user_input":
                inputs.append(entry["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                self._names[entry["arg"]["name"]] = f"tensor_{number}"
                self.register_buffer(f"tensor_{number}", tensors[entry[f"{kind}_name"]])
            else:
                raise ValueError(f"it has an input of kind {kind}")
        results = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
        if len(inputs) != 1 or len(results) != 1:
            raise ValueError(f"it takes {len(inputs)} tensors and gives {len(results)}; it must be one each")
        self._input, self._result = inputs[0], results[0]["as_tensor"]["name"]
        self.batch = graph["tensor_values"][self._input]["sizes"][0].get("as_int")
        if self.batch is not None and not 1 <= int(self.batch) <= 4096:
            raise ValueError(f"its batch is {self.batch}")
        self._last = {name: number for number, step in enumerate(self._steps) for name in step.reads}

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] in batches of the size that the graph is for, the last one filled up."""
        if self.batch is None or len(images) == self.batch:
            return self._run(images)
        parts = []
        for part in images.split(self.batch):
            filled = F.pad(part, (0, 0, 0, 0, 0, 0, 0, self.batch - len(part)))
            parts.append(self._run(filled)[: len(part)])
        return torch.cat(parts)

    def _run(self, images: Tensor) -> Tensor:
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._names.items()}
        values[self._input] = images.contiguous()
        for number, step in enumerate(self._steps):
            values.update(step.run(values, images.device))
            for name in step.reads:
                if self._last[name] == number and name != self._result:
                    values.pop(name, None)
        result: Tensor = values[self._result]
        return result


class _Step:
    """One node of the graph: an operator, its arguments, the names of its results."""

    def __init__(self, node: dict[str, Any]) -> None:
        self._call = _callable(node["target"])
        self._arguments = [(each["name"], each["arg"], each.get("kind") == 2) for each in node["inputs"]]
        self._results = [_result(each) for each in node["outputs"]]
        self.reads = {name for _, argument, _ in self._arguments for name in _reads(argument)}

    def run(self, values: dict[str, Any], device: torch.device) -> dict[str, Any]:
        """The results by name."""
        positional = [_value(arg, values, device) for _, arg, by_name in self._arguments if not by_name]
        named = {name: _value(arg, values, device) for name, arg, by_name in self._arguments if by_name}
        found = self._call(*positional, **named)
        if len(self._results) == 1:
            (result,) = self._results
            return (
                dict(zip(result, found, strict=True)) if isinstance(result, list) else {result or "": found}
            )
        return {name: each for name, each in zip(self._results, found, strict=True) if isinstance(name, str)}


def _callable(target: str) -> Callable[..., Any]:
    found = _OPERATOR.fullmatch(target)
    if found and not found[1].startswith("__") and found[1] not in NOT_RUN:
        packet = getattr(torch.ops.aten, found[1], None)
        overload = getattr(packet, found[2], None)
        if isinstance(overload, torch._ops.OpOverload):
            return overload
    if target in ON_NUMBERS:
        return ON_NUMBERS[target]
    raise ValueError(f"it uses {target!r:.100}, which is not run")


def _result(output: dict[str, Any]) -> str | list[str] | None:
    """The name, or the names of a list, under which a result is kept; None for nothing."""
    kind, value = next(iter(output.items()))
    if kind == "as_tensors":
        return [each["name"] for each in value]
    if kind == "as_none":
        return None
    return str(value["as_name"] if kind.startswith("as_sym") else value["name"])


def _reads(argument: dict[str, Any]) -> list[str]:
    """The names that an argument needs."""
    kind, value = next(iter(argument.items()))
    if kind == "as_tensor":
        return [value["name"]]
    if kind == "as_tensors":
        return [each["name"] for each in value]
    if kind == "as_optional_tensors":
        return [each["as_tensor"]["name"] for each in value if "as_tensor" in each]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return [value["as_name"]] if "as_name" in value else []
    if kind == "as_sym_ints":
        return [each["as_name"] for each in value if "as_name" in each]
    return []


def _value(argument: dict[str, Any], values: dict[str, Any], device: torch.device) -> Any:
    """What an argument is: a result so far, or a plain value. Devices are the images'."""
    kind, value = next(iter(argument.items()))
    if kind == "as_float":
        return float(value)  # infinity is a text
    if kind in PLAIN:
        return value
    if kind in ("as_none", "as_layout"):
        return None
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_tensors":
        return [values[each["name"]] for each in value]
    if kind == "as_optional_tensors":
        return [values[each["as_tensor"]["name"]] if "as_tensor" in each else None for each in value]
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return _symbol(value, values)
    if kind == "as_sym_ints":
        return [_symbol(each, values) for each in value]
    if kind == "as_scalar_type":
        return DTYPES[value]
    if kind == "as_memory_format":
        return FORMATS[value]
    if kind == "as_device":
        return device
    raise ValueError(f"an argument is of kind {kind}")


def _symbol(value: dict[str, Any], values: dict[str, Any]) -> Any:
    """A number that depends on the batch, or a plain one."""
    kind, content = next(iter(value.items()))
    return values[content] if kind == "as_name" else content
