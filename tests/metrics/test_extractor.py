"""The extractors' pinned parameters and input, and KID on their features ranks images as an eye would."""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from chexdist.errors import UserError, WorkError
from chexdist.metrics.extractor import Extractor, load_extractor
from chexdist.metrics.extractors import EXTRACTORS, efficientnet_lite0
from chexdist.metrics.extractors.efficientnet_lite0 import (
    WEIGHTS_SHA256,
    EfficientNetLite0,
    SameConv2d,
    read_pinned,
    weights_path,
)
from chexdist.metrics.kid import measure as kid
from chexdist.metrics.preprocess import preprocess, resize

RANDOM_CONV_SHA256 = "d985781cef2b"


@pytest.fixture(scope="module")
def lite0() -> Extractor:
    return load_extractor("efficientnet-lite0")


def chests(seed: int, n: int, side: int = 64) -> Tensor:
    """Dark ovals in a bright body, with ribs: images [n, 1, side, side] with edges and shades."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=random)

    image = torch.full((n, side, side), 0.5)
    for middle in (-0.45, 0.45):
        lung = ((x - middle - draw(-0.1, 0.1)) / draw(0.25, 0.4)) ** 2 + (y / draw(0.5, 0.8)) ** 2
        image = image - 0.8 * torch.sigmoid(8 * (1 - lung))
    image = image + 0.15 * torch.sin(y * draw(18, 26) + draw(0, 6) + x**2)
    return image.clamp(-1, 1)[:, None]


def noisy(images: Tensor, levels: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + noise * levels / 127.5).clamp(-1, 1)


def blurred(images: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(F.pad(images, (radius,) * 4, mode="reflect"), 2 * radius + 1, 1)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_have_the_stated_form(name: str) -> None:
    extractor = load_extractor(name)
    features = extractor.features(chests(0, 3).to(torch.bfloat16))
    assert features.shape == (3, extractor.dim) and features.dtype == torch.float32
    assert not features.requires_grad and bool(torch.isfinite(features).all())
    assert extractor.features(torch.empty(0, 1, 64, 64)).shape == (0, extractor.dim)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_do_not_depend_on_the_batch(name: str) -> None:
    extractor, images = load_extractor(name), chests(1, 21)
    at_once = extractor.features(images)
    alone = torch.cat([extractor.features(image[None]) for image in images])
    backwards = extractor.features(images.flip(0)).flip(0)
    for other in (alone, backwards):
        assert float((other - at_once).norm() / at_once.norm()) < 1e-5
    assert float((at_once[0] - at_once[1]).norm() / at_once.norm()) > 1e-3


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_do_not_depend_on_global_state(name: str) -> None:
    images = chests(1, 2)
    expected = load_extractor(name).features(images)
    torch.manual_seed(12345)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(load_extractor(name).features(images), expected)
    assert torch.initial_seed() == 12345


@pytest.mark.parametrize("setting", ["ieee", "tf32", "none"])
def test_convolution_precision_is_left_as_it_was(setting: str) -> None:
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    network, inside = torch.nn.Flatten(), []
    network.register_forward_hook(lambda *_: inside.append(conv.fp32_precision))
    original = conv.fp32_precision
    try:
        conv.fp32_precision = setting
        before = conv.fp32_precision
        Extractor("probe", "", 3 * 64, 8, network).features(chests(0, 1))
        assert inside == ["ieee"] and conv.fp32_precision == before
    finally:
        conv.fp32_precision = original


def test_digests_are_pinned(lite0: Extractor) -> None:
    assert lite0.digest == hashlib.sha256(weights_path().read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert load_extractor("random-conv").digest.startswith(RANDOM_CONV_SHA256)


def test_weights_are_refused_when_tampered_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(weights_path().read_bytes())
    content[len(content) // 2] ^= 1
    copy = tmp_path / "weights.pth"
    copy.write_bytes(content)
    with pytest.raises(WorkError, match="SHA-256"):
        read_pinned(copy, WEIGHTS_SHA256)
    monkeypatch.setattr(efficientnet_lite0, "weights_path", lambda: copy)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled before the check"))
    with pytest.raises(WorkError, match="SHA-256"):
        load_extractor("efficientnet-lite0")


def test_unknown_or_missing_extractors_are_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="known: efficientnet-lite0, random-conv"):
        load_extractor("inception")
    monkeypatch.setattr(efficientnet_lite0, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="install no-such-package"):
        load_extractor("efficientnet-lite0")


def test_folding_batch_norms_keeps_the_function(lite0: Extractor) -> None:
    plain = EfficientNetLite0().eval()
    plain.load_state_dict(torch.load(weights_path(), weights_only=True), strict=True)
    with torch.no_grad():
        expected = plain(preprocess(chests(2, 2), 128))
    features = lite0.features(chests(2, 2))
    assert float((features - expected).norm() / expected.norm()) < 1e-5


def test_features_are_those_of_another_implementation(lite0: Extractor) -> None:
    """Expected values: the package efficientnet_lite_pytorch 0.1.0, by the publisher of the weights."""
    axis = torch.linspace(-1, 1, 128, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = torch.cos(9 * x + 4 * y * y) * torch.sin(5 * y + x)
    features = lite0.features(image[None, None])[0]
    assert float(features.norm()) == pytest.approx(34.82502883, rel=1e-5)
    largest = {949: 6.0, 39: 5.9645, 171: 5.8251, 162: 5.5157, 1196: 5.4107}
    assert {i: float(features[i]) for i in largest} == pytest.approx(largest, abs=2e-4)


def test_weights_fit_the_normalisation() -> None:
    """The variances stored with the stem are those of photographs."""
    state = torch.load(weights_path(), weights_only=True)
    stem = SameConv2d(3, 32, 3, stride=2)
    stem.weight.data = state["_conv_stem.weight"]
    random = torch.Generator().manual_seed(0)
    frequency = torch.fft.fftfreq(128)
    radius = torch.hypot(frequency[:, None], frequency[None, :]).clamp(min=1e-3)
    photographs = torch.fft.ifft2(
        torch.fft.fft2(torch.randn(32, 1, 128, 128, generator=random)) / radius
    ).real
    photographs = (photographs / photographs.std() * 0.5 - 0.1).clamp(-1, 1)  # of ImageNet's spread
    with torch.no_grad():
        variance = stem(preprocess(photographs, 128)).var((0, 2, 3))
    stored = state["_bn0.running_var"]
    smooth_filters = stored.topk(5).indices
    assert 0.5 < float((variance / stored)[smooth_filters].median()) < 2


def test_preprocess_rules() -> None:
    gray = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(-1, -1, 4, 4)
    out = preprocess(gray, 128)
    assert (
        out.shape == (3, 3, 128, 128)
        and torch.equal(out[:, 0], out[:, 1])
        and torch.equal(out[:, 0], out[:, 2])
    )
    assert out[:, 0, 5, 7].tolist() == [-127 / 128, 1 / 128, 1.0]


@pytest.mark.parametrize("side", [32, 64, 128, 200, 256])
def test_resize_against_float64_and_pillow(side: int) -> None:
    levels = ((chests(4, 1, side) + 1) * 127.5).round()
    out = resize(levels, 128)
    assert float((out - resize(levels.double(), 128)).abs().max()) < 1e-3
    oracle = Image.fromarray(levels[0, 0].numpy()).resize((128, 128), Image.Resampling.BILINEAR)
    assert float((out[0, 0] - torch.from_numpy(np.array(oracle))).abs().max()) < 2e-3


def test_exported_pictures_have_the_features_of_the_tensors(lite0: Extractor) -> None:
    images = chests(5, 4)
    exported = ((images + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(lite0.features(images), lite0.features(exported.float() / 127.5 - 1))
    on_grid = exported.float() / 127.5 - 1
    assert torch.equal(lite0.features(on_grid), lite0.features(on_grid.to(torch.bfloat16)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "gray squares"),
        (torch.zeros(2, 1, 8, 9), "gray squares"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "floats"),
        (torch.full((2, 1, 8, 8), 255.0), "outside"),
        (torch.full((2, 1, 8, 8), torch.nan), "not finite"),
    ],
)
def test_preprocess_refuses_other_input(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess(images, 64)


@pytest.mark.parametrize(
    ("harm", "amounts"), [(noisy, (2.0, 5.0, 15.0)), (blurred, (1, 2, 4))], ids=["noise", "blur"]
)
def test_kid_rises_with_harm(
    lite0: Extractor, harm: Callable[[Tensor, float], Tensor], amounts: tuple
) -> None:
    real = lite0.features(chests(6, 40))
    others = chests(7, 40)
    values = [kid(real, lite0.features(images)) for images in (others, *(harm(others, a) for a in amounts))]
    assert values[0].low <= 0 <= values[0].high
    assert all(a.value < b.value for a, b in pairwise(values))
    assert values[-1].low > values[0].high
