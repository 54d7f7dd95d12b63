"""Networks in a user's files: equal to the network that was saved, and unable to run code of their own."""

import json
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractor import Extractor, load_extractor
from chexdist.metrics.extractors.spec import FileSpec, check, parse
from chexdist.metrics.preprocess import AS_IMAGENET, Normalised, preprocess
from chexdist.metrics.protocol import Protocol

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


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(n)) * 2 - 1


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


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_network(kind: str, tmp_path: Path) -> None:
    found = load_extractor(f"{KINDS[kind](tmp_path)}:size={SIDE},range=-2..3.5")
    inputs = preprocess(images(), SIDE, Normalised.between(-2, 3.5, 3))
    expected = network()(inputs).mean((2, 3))
    torch.testing.assert_close(found.features(images()), expected.detach(), rtol=1e-5, atol=1e-6)
    assert found.dim == 6 and found.features(images()[:0]).shape == (0, 6)


def test_an_attention_network_by_export(tmp_path: Path) -> None:
    """Expansions, splits, symbols of the batch and scaled dot products, as vision transformers have."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    module = VisionTransformer(SIDE, 16, 1, 2, 16, 32).eval()
    module.heads = nn.Identity()
    found = load_extractor(f"{exported(module, tmp_path / 'vit.pt2')}:{LIKE}")
    expected = module(preprocess(images(), SIDE, found.normalised))
    torch.testing.assert_close(found.features(images()), expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["shufflenet_v2_x0_5", pytest.param("inception_v3", marks=pytest.mark.slow)])
def test_weights_of_an_architecture(arch: str, tmp_path: Path) -> None:
    from torchvision import models

    torch.manual_seed(0)
    module = models.get_model(arch, weights=None, num_classes=7).eval()
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    module.fc = nn.Identity()
    found = load_extractor(f"{tmp_path}/weights.safetensors:size=128,range=imagenet,arch={arch}")
    assert found.normalised == AS_IMAGENET and found.name.startswith(f"{arch}-")
    expected = module(preprocess(images(2), 128, AS_IMAGENET))
    torch.testing.assert_close(found.features(images(2)), expected.detach())


def test_imagenet_s_range_is_torchvision_s() -> None:
    from torchvision.transforms.functional import normalize

    level = torch.full((1, 1, 8, 8), 0.25)
    expected = normalize(((level + 1) * 127.5).round().expand(-1, 3, -1, -1) / 255, *MEAN_AND_DEVIATION)
    torch.testing.assert_close(preprocess(level, 8, AS_IMAGENET), expected)


MEAN_AND_DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def test_one_channel(tmp_path: Path) -> None:
    path = script(network(channels=1), tmp_path / "gray.pt")
    found = load_extractor(f"{path}:size={SIDE},range=-1024..1024,channels=1")
    inputs = preprocess(images(), SIDE, Normalised.between(-1024, 1024, 1))
    assert inputs.shape[1] == 1 and 256 < float(inputs.abs().max()) <= 1024
    torch.testing.assert_close(found.features(images()), network(1)(inputs).mean((2, 3)).detach())
    assert protocol(found).gray == "one channel"


def protocol(extractor: Extractor) -> Protocol:
    return Protocol.of(extractor, image_size=64, reference="abc", reference_split="val", n=64)


def test_the_protocol_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    """Equal files have one protocol wherever they lie; another size, range, channels or content, another."""
    first = script(network(), tmp_path / "a.pt")
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "b.torchscript"
    second.write_bytes(first.read_bytes())
    third = script(nn.Sequential(network(), nn.Dropout()).eval(), tmp_path / "c.pt")
    here = protocol(load_extractor(f"{first}:{LIKE}"))
    assert protocol(load_extractor(f"{second}:range=-1..1,channels=3,size={SIDE}")) == here
    others = [f"{first}:size=64,range=-1..1", f"{first}:size={SIDE},range=0..1", f"{third}:{LIKE}"]
    others.append(f"{first}:size={SIDE},range=imagenet")
    assert len({here.hash, *(protocol(load_extractor(each)).hash for each in others)}) == 5
    assert (here.input_size, here.normalisation) == (SIDE, "level 0 becomes -1, level 255 1")


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


def test_a_spec_is_read() -> None:
    assert parse("C:/a b/x=1.pt:size=299,range=-1..1") == FileSpec(
        Path("C:/a b/x=1.pt"), 299, (-1.0, 1.0), 3, ""
    )
    assert parse("w.safetensors:arch=densenet121,range=imagenet,size=224").range is None
    assert not check("random-conv") and check("a:size=16,range=.5..1.5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=299", "range=-1..1"),
        ("range=0..1", "size"),
        ("size=8,range=0..1", "size"),
        ("size=99999,range=0..1", "size"),
        ("size=64,range=1..0", "range"),
        ("size=64,range=0..nan", "range"),
        ("size=64,range=0..1,channels=2", "channels"),
        ("size=64,range=imagenet,channels=1", "3 channels"),
        ("size=64,range=0..1,size=32", "twice"),
        ("size=64,range=0..1,batch=2", "unknown"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(options: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse(f"a.pt:{options}")
    with pytest.raises(ValueError, match=re.escape(message)):
        check(f"a.pt:{options}")
