"""A folder of pictures as images to be measured: values, classes, order and digest."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.picture_folders import CLASSES, draw
from PIL import Image

from chexdist.errors import UserError
from chexdist.evaluation.pictures_source import PicturesSource, read_picture, read_pictures
from chexdist.metrics.preprocess import resize


def test_order_and_classes_are_the_seed_s(tmp_path: Path) -> None:
    for number in range(40):
        draw(tmp_path / CLASSES[number % 4 == 0] / f"{number}.png", number)
    pictures = read_pictures(tmp_path, CLASSES)
    one, again, other = (PicturesSource(pictures, 2, 32, 0, seed, torch.device("cpu")) for seed in (0, 0, 1))
    first = one.draw(range(8), None)
    assert torch.equal(first, again.draw(range(8), None)) and not torch.equal(
        first, other.draw(range(8), None)
    )
    assert torch.equal(torch.cat([one.draw(range(3), None), one.draw(range(3, 8), None)]), first)
    assert one.conditional and (one.available(None), one.available(0), one.available(1)) == (40, 30, 10)
    labels = one.labels(range(40))
    assert int((labels == 1).sum()) == 10
    of_class = torch.stack(
        [image for image, label in zip(one.draw(range(40), None), labels, strict=True) if label]
    )
    assert torch.equal(of_class, one.draw(range(10), 1))


def test_a_picture_is_its_levels(tmp_path: Path) -> None:
    """8 and 16 bits, gray, palette and RGB, PNG and JPEG; the side is brought by the protocol's filter."""
    gray = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    expected = torch.from_numpy(gray.astype(np.float32) / 127.5 - 1)[None, None]
    image = Image.fromarray(gray)
    image.save(tmp_path / "gray.png")
    image.convert("RGB").save(tmp_path / "rgb.png")
    image.convert("P").save(tmp_path / "palette.png")
    image.save(tmp_path / "gray.jpg", quality=100)
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("gray.png", "rgb.png", "palette.png", "deep.png"):
        torch.testing.assert_close(read_picture(tmp_path / name), expected, rtol=0, atol=1e-6)
    assert float((read_picture(tmp_path / "gray.jpg") - expected).abs().max()) < 0.05
    fine = np.full((32, 32), 30_001, np.uint16)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    assert float(read_picture(tmp_path / "fine.png")[0, 0, 0, 0]) == pytest.approx(30_001 / 65_535 * 2 - 1)
    source = PicturesSource(read_pictures(tmp_path, CLASSES), 2, 16, 0, 0, torch.device("cpu"))
    drawn = source.draw(range(1), None)
    file = source.pictures.files[source._order[0]]
    assert drawn.shape == (1, 1, 16, 16) and source.brought_from == 32
    torch.testing.assert_close(drawn, resize(read_picture(file), 16))


def test_a_class_is_named_as_in_the_sources(tmp_path: Path) -> None:
    draw(tmp_path / "No finding" / "a.png")
    draw(tmp_path / "Finding" / "deep" / "b.png", 1)
    found = read_pictures(tmp_path, CLASSES)
    assert found.labels is not None and found.labels.tolist() == [1, 0]
    assert [file.name for file in found.files] == ["b.png", "a.png"]
    with pytest.raises(UserError, match="no class of the shards"):
        read_pictures(tmp_path, ("a", "b"))


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    draw(tmp_path / "one" / "a.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    digest = read_pictures(tmp_path / "one", CLASSES).sha256
    assert read_pictures(tmp_path / "two", CLASSES).sha256 == digest
    draw(tmp_path / "two" / "a.png", 5)
    draw(tmp_path / "one" / "b.png", 5)
    assert len({digest, *(read_pictures(tmp_path / name, CLASSES).sha256 for name in ("one", "two"))}) == 3
