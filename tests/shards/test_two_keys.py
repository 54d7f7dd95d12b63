"""Two laboratories, one split: under another key there are the same images in the same split and order.

Only the names differ. What the manifest says of a split's content is equal, so that protocols agree.
"""

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.build_options import build_options
from helpers.xray_files import class_folders
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from chexdist.data.manifest import read_manifest
from shards import manifest
from shards.__main__ import main
from shards.build import describe
from shards.content import pixel_digest, split_digest
from shards.gather import gather
from shards.identity import Names
from shards.plan import Sample, make_shards, split_samples
from shards.scan import Scanned
from shards.sources.listing import Listing, Source

PATTERN = ["--patient-pattern", "^([0-9]+)_"]
SMALL = ["--size", "16", "--workers", "1", "--samples-per-shard", "12"]
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("source") / "in", patients=40, images=2)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three builds, each with a fresh key of its own."""
    root = tmp_path_factory.mktemp("built")
    folders = [root / name for name in ("one", "two", "three")]
    for folder in folders:
        assert main(["build", str(source), "--out", str(folder), *PATTERN, *SMALL]) == 0
    assert len({Path(f"{folder}.key").read_text() for folder in folders}) == 3
    return folders


def pictures(folder: Path, split: str) -> list[tuple[bytes, str]]:
    """Pixels and class of each image of a split, in order."""
    found = []
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name, data in members.items():
            if name.endswith(".png"):
                label = json.loads(members[name.removesuffix("png") + "json"])["class"]
                found.append((np.asarray(Image.open(io.BytesIO(data))).tobytes(), label))
    return found


def columns(folder: Path, split: str, column: str) -> list[str]:
    shards = manifest.read(folder).splits[split].shards
    return list(chain.from_iterable(getattr(shard.index, column) for shard in shards))


def numbered(names: list[str]) -> list[int]:
    order = list(dict.fromkeys(names))
    return [order.index(name) for name in names]


def test_three_keys_give_the_same_images_in_the_same_split_and_order(built: list[Path]) -> None:
    first = {split: pictures(built[0], split) for split in SPLITS}
    assert [len(first[split]) for split in SPLITS] == [64, 8, 8]
    assert len({pixels for split in SPLITS for pixels, _ in first[split]}) == 80
    for other in built[1:]:
        assert {split: pictures(other, split) for split in SPLITS} == first
        for split in SPLITS:
            for column in ("patient", "cluster"):
                ours, theirs = columns(built[0], split, column), columns(other, split, column)
                assert numbered(ours) == numbered(theirs)
                assert not set(ours) & set(theirs)
            assert not set(columns(built[0], split, "key")) & set(columns(other, split, "key"))


def test_the_content_digests_agree_and_the_manifests_differ(built: list[Path]) -> None:
    read = [read_manifest(str(folder)) for folder in built]
    assert len({found.digest for found in read}) == 3
    for split in SPLITS:
        digests = {found.splits[split].content_sha256 for found in read}
        assert len(digests) == 1 and None not in digests
    assert len({read[0].splits[split].content_sha256 for split in SPLITS}) == 3


def test_the_content_digest_can_be_computed_from_the_shards(built: list[Path]) -> None:
    """As its docstring says, with nothing of the package."""
    for split in SPLITS:
        patients = numbered(columns(built[0], split, "patient"))
        clusters = numbered(columns(built[0], split, "cluster"))
        lines = ['{"bits":8,"classes":["no_finding","finding"],"size":16}']
        for (pixels, label), patient, cluster in zip(
            pictures(built[0], split), patients, clusters, strict=True
        ):
            number = ("no_finding", "finding").index(label)
            lines.append(f"{hashlib.sha256(pixels).hexdigest()} {number} {patient} {cluster}")
        expected = hashlib.sha256(("\n".join(lines) + "\n").encode()).hexdigest()
        assert manifest.read(built[0]).splits[split].content_sha256 == expected


def test_another_seed_gives_another_split(source: Path, built: list[Path], tmp_path: Path) -> None:
    assert main(["build", str(source), "--out", str(tmp_path / "out"), *PATTERN, *SMALL, "--seed", "1"]) == 0
    ours, theirs = (
        {pixels for pixels, _ in pictures(folder, "val")} for folder in (built[0], tmp_path / "out")
    )
    assert len(ours & theirs) <= 4


def test_names_files_and_size_do_not_move_an_image(source: Path, built: list[Path], tmp_path: Path) -> None:
    """Files that were renamed and written in another order; larger pictures of the same files."""
    renamed = tmp_path / "renamed"
    files = sorted(source.rglob("*.png"), reverse=True)
    for number, path in enumerate(files):
        target = renamed / path.parent.name / "deep" / f"{path.stem.split('_')[0]}_{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    assert main(["build", str(renamed), "--out", str(tmp_path / "out"), *PATTERN, *SMALL]) == 0
    for split in SPLITS:
        assert pictures(tmp_path / "out", split) == pictures(built[0], split)
    larger = [*PATTERN, *SMALL, "--size", "32", "--workers", "2", "--key-file", f"{built[0]}.key"]
    assert main(["build", str(source), "--out", str(tmp_path / "large"), *larger]) == 0
    for split in SPLITS:
        assert columns(tmp_path / "large", split, "key") == columns(built[0], split, "key")


def invented(data: st.DataObject) -> dict[str, Any]:
    """Images of a few patients, some of them copies, as a scan could have found them."""
    count = data.draw(st.integers(1, 80), "images")
    rng = random.Random(data.draw(st.integers(0, 2**32), "seed of the images"))
    people, looks = rng.randint(1, count), rng.randint(1, count)
    images = [Source(0, f"{number:03}.png", "", rng.choice(["a", "b"])) for number in range(count)]
    contents = {
        image: hashlib.sha256(str(rng.randrange(4 * count)).encode()).digest() for image in images
    }  # files of the same bytes among them
    prints = {content: rng.randrange(looks) for content in sorted(set(contents.values()))}
    return {
        "images": images,
        "patients": {image: str(rng.randrange(people)) for image in images},
        "scanned": {
            image: Scanned("", 0, 0, content, content.hex(), None, False)
            for image, content in contents.items()
        },
        "prints": prints,
        "seed": data.draw(st.integers(-2, 5), "seed"),
    }


def in_one_class(found: dict[str, Any]) -> int:
    """How many images are not the same picture as one of another class."""
    labels: dict[str, set[str]] = {}
    for image in found["images"]:
        labels.setdefault(found["scanned"][image].pixels, set()).add(image.label)
    return sum(len(labels[found["scanned"][image].pixels]) == 1 for image in found["images"])


def planned(found: dict[str, Any], key: bytes, listed: list[Source]) -> dict[str, list[list[Sample]]]:
    """The shards of each split as `build` plans them, files listed in this order."""

    def scan(workers: None, batch: list[Source], *_: object) -> list[Scanned]:
        return [found["scanned"][image] for image in batch]

    options: Any = build_options(per_class=None, seed=found["seed"])
    names = Names(key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shards.gather.scan", scan)
        images, _ = gather(None, Listing(listed), names, Path(), options)  # type: ignore[arg-type]
    patients = [found["patients"][image.source] for image in images]
    looks = [found["prints"][image.scanned.content] for image in images]
    linked = [(looks.index(look), at) for at, look in enumerate(looks)]
    samples, _ = describe(names, images, patients, ["a", "b"], linked)
    split = split_samples(samples, 2, FRACTIONS, found["seed"])
    return {name: make_shards(part, 7, found["seed"]) for name, part in split.items()}


@given(st.data(), st.lists(st.binary(min_size=32, max_size=32), min_size=3, max_size=3, unique=True))
def test_plans_under_three_keys_differ_in_names_alone(data: st.DataObject, keys: list[bytes]) -> None:
    found = invented(data)
    rng = data.draw(st.randoms(use_true_random=False))
    plans = [planned(found, key, rng.sample(found["images"], len(found["images"]))) for key in keys]
    contents, groups, names = [], [], []
    for plan in plans:
        shards = [shard for name in SPLITS for shard in plan[name]]
        contents.append([[(sample.content, sample.label) for sample in shard] for shard in shards])
        groups.append(
            [
                numbered([getattr(sample, column) for shard in shards for sample in shard])
                for column in ("patient", "cluster")
            ]
        )
        names.append({sample.key for shard in shards for sample in shard})
        assert len(names[-1]) == in_one_class(found)
        for column in ("patient", "cluster"):
            where = [{getattr(sample, column) for shard in plan[name] for sample in shard} for name in SPLITS]
            assert sum(map(len, where)) == len(set.union(*where))
    assert contents[0] == contents[1] == contents[2]
    assert groups[0] == groups[1] == groups[2]
    assert not names[0] & names[1] and not names[1] & names[2]


def test_what_the_content_digest_sees_and_what_it_does_not() -> None:
    base = {"pixels": ["aa", "bb", "cc"], "labels": [0, 1, 1], "patients": ["x", "x", "y"]}

    def digest(classes: tuple[str, ...] = ("a", "b"), size: int = 16, bits: int = 8, **changed: Any) -> str:
        return split_digest(classes, size, bits, **{**base, "clusters": ["1", "2", "3"], **changed})

    assert digest() == digest(patients=["p", "p", "q"], clusters=["7", "8", "6"])  # other names
    others = [
        digest(classes=("a", "c")),
        digest(size=32),
        digest(bits=16),
        digest(pixels=["bb", "aa", "cc"]),
        digest(labels=[0, 1, 0]),
        digest(patients=["x", "y", "y"]),
        digest(patients=["x", "y", "z"]),
        digest(clusters=["1", "1", "3"]),
    ]
    assert len({digest(), *others}) == 9


def test_the_pixel_digest_is_of_levels_not_of_bytes_of_a_machine() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 200
    expected = hashlib.sha256(levels.astype("<u2").tobytes()).hexdigest()
    assert pixel_digest(levels.astype("<u2")) == pixel_digest(levels.astype(">u2")) == expected
    assert pixel_digest(levels.astype(np.uint8)) != expected


def test_a_wrong_content_digest_is_found(
    built: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(built[0], tmp_path / "copy"))
    content = json.loads((copy / "manifest.json").read_text())
    content["splits"]["val"]["content_sha256"] = content["splits"]["test"]["content_sha256"]
    (copy / "manifest.json").write_text(json.dumps(content))
    assert main(["verify", str(copy)]) == 1
    said = capsys.readouterr().out
    assert said.count("content_sha256 does not follow") == 1 and "splits/val: content_sha256" in said


def test_a_manifest_of_an_earlier_release_has_no_content_digest(built: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built[0], tmp_path / "copy"))
    content = json.loads((copy / "manifest.json").read_text())
    for split in content["splits"].values():
        del split["content_sha256"]
    del content["build"]["synthetic"], content["sha256"]
    content["render"]["version"] = 3
    (copy / "manifest.json").write_text(json.dumps(content))
    assert main(["verify", str(copy)]) == 0 and main(["inspect", str(copy)]) == 0
    assert read_manifest(str(copy)).splits["val"].content_sha256 is None


def test_nothing_of_the_source_file_is_written(source: Path, built: list[Path]) -> None:
    """Its digest decides the order, and would tell whether a given file is among them."""
    data = b"".join(path.read_bytes() for path in built[0].iterdir())
    for path in source.rglob("*.png"):
        digest = hashlib.sha256(path.read_bytes())
        assert digest.digest() not in data and digest.hexdigest()[:16].encode() not in data
        assert os.fsencode(path.stem) not in data
