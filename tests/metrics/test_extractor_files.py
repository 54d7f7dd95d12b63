"""Networks in a user's files are equal to the network that was saved, and their settings are read."""

import re
from pathlib import Path

import pytest
import torch
from helpers.saved_networks import KINDS, LIKE, SIDE, exported, network, script
from safetensors.torch import save_file
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.metrics.extractor import Extractor, load_extractor
from chexdist.metrics.extractors.spec import FileSpec, check, parse
from chexdist.metrics.preprocess import AS_IMAGENET, Normalised, preprocess
from chexdist.metrics.protocol import Protocol


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 64, 64, generator=torch.Generator().manual_seed(n)) * 2 - 1


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
