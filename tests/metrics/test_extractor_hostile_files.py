"""A file that can't be used as an extractor is named, and none can run code of its own."""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.saved_networks import KINDS, LIKE, exported, network, script, traced
from safetensors.torch import save_file
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractor import load_extractor


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class Saves(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, self.path)
        return x.mean((2, 3))


class Maps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8).sum()


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The zip with each record changed; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        records = {name: change(name.partition("/")[2], archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def edited(path: Path, old: str, new: str, record: str = "models/model.json") -> Path:
    """With a text replaced in the record, or in all of that folder."""
    found = []

    def change(name: str, content: bytes) -> bytes:
        if not name.startswith(record) or old.encode() not in content:
            return content
        found.append(name)
        return content.replace(old.encode(), new.encode())

    rewritten(path, change)
    assert found
    return path


def evil_export(folder: Path, canary: Path) -> Path:
    """Pickles wherever torch.export.load would read one, and Python wherever it would evaluate it."""
    attack = pickle.dumps(Canary(canary))
    python = f"__import__('pathlib').Path('{canary}').touch()"
    path = exported(network(), folder / "evil.pt2")

    def change(name: str, content: bytes) -> bytes:
        if name == "data/sample_inputs/model.pt":
            return attack
        if name == "models/model.json":
            document = json.loads(content)
            document["guards_code"] = [python]
            text = json.dumps(document)
            return re.sub(r'"expr_str": "[^"]*"', f'"expr_str": "{python}"', text).encode()
        return content

    return rewritten(path, change)


def test_what_torch_would_evaluate_in_an_export_is_not_evaluated(tmp_path: Path) -> None:
    """The file is a network all the same; torch.export.load does run what is in it."""
    canary = tmp_path / "canary"
    path = evil_export(tmp_path, canary)
    assert b"touch" in zipfile.ZipFile(path).read("evil/models/model.json")
    assert load_extractor(f"{path}:{LIKE}").dim == 6 and not canary.exists()
    with pytest.raises(Exception):  # noqa: B017
        torch.export.load(path)
    assert canary.exists(), "torch.export.load is safe by now: let it read these files"


def pickled_weights(folder: Path, canary: Path) -> Path:
    path = exported(network(), folder / "a.pt2")
    edited(path, '"use_pickle": false', '"use_pickle": true', "data/weights/model_weights_config.json")
    return rewritten(path, lambda name, old: pickle.dumps(Canary(canary)) if "weight_" in name else old)


def pickle_in_script(folder: Path, canary: Path) -> Path:
    path = script(network(), folder / "a.pt")
    return rewritten(path, lambda name, old: pickle.dumps(Canary(canary), 2) if name == "data.pkl" else old)


def saved_pickle(folder: Path, canary: Path) -> Path:
    torch.save({"weight": Canary(canary)}, folder / "a.pt")
    return folder / "a.pt"


def bare_pickle(folder: Path, canary: Path) -> Path:
    (folder / "a.pt").write_bytes(pickle.dumps(Canary(canary)))
    return folder / "a.pt"


def by_constructed_name(folder: Path, canary: Path) -> Path:
    """`getattr` with an escape that spells `save`."""
    path = script(Saves(str(canary)), folder / "a.pt")
    return edited(path, "torch.save(x, ", 'getattr(x, "s\\141ve")(', "code/")


def other_namespace(folder: Path, canary: Path) -> Path:
    path = script(Saves(str(canary)), folder / "a.pt")
    return edited(path, "torch.save(x, ", "ops.profiler._record_function_enter(", "code/")


EVIL: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a script that saves": (lambda folder, at: script(Saves(str(at)), folder / "a.pt"), "'save'"),
    "a script that maps a file": (lambda folder, at: script(Maps(), folder / "a.pt"), "'from_file'"),
    "a script with getattr": (by_constructed_name, "'getattr'"),
    "a script with other operators": (other_namespace, "'ops'"),
    "a pickle in a script": (pickle_in_script, "damaged"),
    "pickled weights of an export": (pickled_weights, "pickled"),
    "a pickled state_dict": (saved_pickle, "without running code"),
    "a bare pickle": (bare_pickle, "without running code"),
    "an export that maps a file": (
        lambda folder, at: edited(
            exported(network(), folder / "a.pt2"),
            "torch.ops.aten.relu.default",
            "torch.ops.aten.from_file.default",
        ),
        "from_file",
    ),
    "an export that calls Python": (
        lambda folder, at: edited(
            exported(network(), folder / "a.pt2"), "torch.ops.aten.relu.default", "os.system"
        ),
        "os.system",
    ),
    "an export that calls torch": (
        lambda folder, at: edited(
            exported(network(), folder / "a.pt2"),
            "torch.ops.aten.relu.default",
            "torch.ops.aten.__class__.mro",
        ),
        "which is not run",
    ),
}


@pytest.mark.parametrize("case", EVIL)
def test_a_file_can_run_nothing(case: str, tmp_path: Path) -> None:
    make, message = EVIL[case]
    canary = tmp_path / "canary"
    path = make(tmp_path, canary)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_extractor(f"{path}:{LIKE}")
    assert str(path) in str(error.value) and not canary.exists()


class Gives(nn.Module):
    """What the function makes of each image."""

    def __init__(self, of: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor) -> Any:
        return self.of(x)


def outside(folder: Path) -> Path:
    path = exported(network(), folder / "a.pt2")
    table = "data/weights/model_weights_config.json"
    return edited(path, '"storage_offset": {"as_int": 0}', '"storage_offset": {"as_int": 99999}', table)


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/code/__torch__.py", bytes(1 << 28))
    return folder / "a.pt"


def cut(folder: Path) -> Path:
    path = script(network(), folder / "a.pt")
    path.write_bytes(path.read_bytes()[:-200])
    return path


def text(folder: Path) -> Path:
    (folder / "a.pt").write_text("no network")
    return folder / "a.pt"


def long_header(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    return folder / "a.safetensors"


def weights(folder: Path) -> Path:
    save_file({"weight": torch.zeros(2)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def of_the_batch(folder: Path) -> Path:
    return exported(Gives(lambda x: (x - x.mean()).mean((2, 3))), folder / "a.pt2")


WRONG: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "nothing": (lambda folder: folder / "none.pt", LIKE, "no such file"),
    "a folder": (lambda folder: folder, LIKE, "no such file"),
    "text": (text, LIKE, "without running code"),
    "cut": (cut, LIKE, "damaged"),
    "bomb": (bomb, LIKE, "far more bytes"),
    "long header": (long_header, LIKE, "without running code"),
    "weights without arch": (weights, LIKE, "arch=NAME"),
    "unknown arch": (weights, f"{LIKE},arch=densenet", "densenet121"),
    "arch without linear layer": (weights, f"{LIKE},arch=squeezenet1_0", "no linear layer"),
    "weights of another": (weights, f"{LIKE},arch=resnet18", "no weights of torchvision's resnet18"),
    "arch with a network": (KINDS["trace"], f"{LIKE},arch=resnet18", "leave out arch"),
    "outside of the file": (outside, LIKE, "reaches outside"),
    "channels": (KINDS["trace"], f"{LIKE},channels=1", "size and channels"),
    "depends on the batch": (of_the_batch, LIKE, "model.eval()"),
    "not finite": (
        lambda folder: exported(Gives(lambda x: x.mean((2, 3)) / 0), folder / "a.pt2"),
        LIKE,
        "not finite",
    ),
    "two tensors": (
        lambda folder: traced(Gives(lambda x: (x.mean((2, 3)), x)), folder / "a.pt"),
        LIKE,
        "gives a tuple",
    ),
    "tokens": (lambda folder: traced(Gives(lambda x: x.flatten(2)), folder / "a.pt"), LIKE, "[2, 3, 1024]"),
    "one feature": (
        lambda folder: traced(Gives(lambda x: x.mean((1, 2, 3))), folder / "a.pt"),
        LIKE,
        "[N, D]",
    ),
    "constant": (
        lambda folder: exported(Gives(lambda x: 0 * x.mean((2, 3)) + 1), folder / "a.pt2"),
        LIKE,
        "equal features",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_can_t_be_used_is_named(case: str, tmp_path: Path) -> None:
    make, options, message = WRONG[case]
    path = make(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        load_extractor(f"{path}:{options}")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
