"""Whether labels are obeyed and left is left: planted faults on the phantom, refusals, what is cached."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.phantom_films import films
from PIL import Image
from torch import Tensor

from chexdist.data.manifest import Manifest, read_manifest
from chexdist.data.user_cache import user_cache
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.labels import LabelNumbers
from chexdist.evaluation.measure import observe
from chexdist.evaluation.reference import RealImages
from chexdist.metrics.classifier import Classifier
from chexdist.metrics.patches import REFLECTIONS
from chexdist.metrics.value import Metric

NAMES = ("label_accuracy", "transfer_accuracy", *REFLECTIONS)
PATIENTS = 280


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Phantom films as shards: two of each patient, one of each class."""
    root = tmp_path_factory.mktemp("phantom")
    images, labels = films(range(1, 1 + PATIENTS))
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        folder = root / "sources" / ("No_finding", "Finding")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = ((image[0] + 1) * 127.5).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number // 2:04d}_{label}.png")
    (root / "key").write_text("5e" * 32)
    (root / "key").chmod(0o600)
    command: list[object] = [sys.executable, "-m", "shards", "build", root / "sources", "--out", root / "out"]
    command += ["--size", 32, "--split", "train=0.5,val=0.25,test=0.25", "--key-file", root / "key"]
    command += ["--patient-pattern", r"^(\d+)_", "--workers", 1]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return read_manifest(str(root / "out"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One for the module, so that its classifier is made once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    yield user_cache()


def real_images(manifest: Manifest) -> RealImages:
    return RealImages(manifest, torch.device("cpu"), Collectives(World(0, 1, 0, 0), timeout_seconds=0))


@dataclass(frozen=True)
class Taken:
    """Images that stand for generated ones: those of `test`, whose patients are in no other split."""

    pictures: Tensor
    classes: Tensor
    conditional: bool = True
    config: None = None
    images: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> "Taken":
        split = manifest.splits["test"]
        pixels = real_images(manifest).images("test", range(len(split)))
        return cls(pixels, torch.from_numpy(split.label))

    def _of_class(self, label: int | None) -> Tensor:
        return self.pictures if label is None else self.pictures[self.classes == label]

    def draw(self, rows: range, label: int | None) -> Tensor:
        return self._of_class(label)[rows.start : rows.stop]

    def labels(self, rows: range) -> Tensor:
        return self.classes[rows.start : rows.stop] * int(self.conditional)

    def available(self, label: int | None) -> int:
        return len(self._of_class(label))


def measure(manifest: Manifest, source: Taken) -> Findings:
    findings, part = Findings(None, 0), LabelNumbers(real_images(manifest), "val")
    part.prepare()
    (observed,) = observe(source, manifest.classes, 4096, [part])
    part.conclude(observed, findings)
    return findings


def moved(findings: Findings) -> set[str]:
    """The numbers whose interval does not touch that of real images."""
    numbers = {metric.name: metric for metric in findings.metrics}

    def apart(one: Metric, other: Metric) -> bool:
        assert None not in (one.low, one.high, other.low, other.high)
        return one.low > other.high or one.high < other.low  # type: ignore[operator]

    return {name for name in NAMES if apart(numbers[name], numbers[f"{name}/real"])}


FAULTS: dict[str, tuple[Callable[[Taken], Taken], set[str]]] = {
    "held-out": (lambda source: source, set()),
    "mirrored": (lambda source: replace(source, pictures=source.pictures.flip(3)), {"mirrored"}),
    "upside down": (lambda source: replace(source, pictures=source.pictures.flip(2)), {"upside_down"}),
    "inverted": (lambda source: replace(source, pictures=-source.pictures), {"inverted"}),
    "swapped": (
        lambda source: replace(source, classes=1 - source.classes),
        {"label_accuracy", "transfer_accuracy"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_move_the_numbers_that_should_see_them(manifest: Manifest, fault: str) -> None:
    plant, expected = FAULTS[fault]
    findings = measure(manifest, plant(Taken.of(manifest)))
    assert not findings.refused
    found, about_labels = moved(findings), {"label_accuracy", "transfer_accuracy"}
    if fault in ("held-out", "swapped"):
        assert found == expected
    else:  # a class may well be seen less on images the wrong way round
        assert found - about_labels == expected
    numbers = {metric.name: metric for metric in findings.metrics}
    for name in expected:
        value, real = numbers[name].value, numbers[f"{name}/real"].value
        assert value < 0.5 < real if name in about_labels else value > 0.9 and real < 0.1
    for metric in findings.metrics:
        protocol = findings.protocols[metric.protocol or ""]
        assert protocol["trained_on"] == len(manifest.splits["train"])
        assert metric.patients and metric.n_real and metric.n_real >= metric.patients
    of_class = {f"{name}/{each}" for name in ("label_accuracy", *REFLECTIONS) for each in manifest.classes}
    assert of_class <= numbers.keys()
    assert {name for _, name in findings.draws} == numbers.keys()


def test_without_classes_only_the_orientation_is_judged(manifest: Manifest) -> None:
    findings = measure(manifest, replace(Taken.of(manifest), conditional=False))
    assert {metric.name.removesuffix("/real") for metric in findings.metrics} == {*REFLECTIONS}
    assert findings.refused.keys() == {"label_accuracy", "transfer_accuracy"}
    assert all("unconditional" in reason for reason in findings.refused.values())


def test_a_classifier_that_can_not_tell_real_images_says_nothing_of_generated_ones(
    manifest: Manifest,
) -> None:
    """Labels by chance, and images as often mirrored as not, have nothing to learn."""
    source, draws = Taken.of(manifest), np.random.default_rng(0)
    part = LabelNumbers(real_images(manifest), "val")
    part.prepare()
    flips = torch.from_numpy(draws.random(len(part.truth)) < 0.5)
    part.seen = torch.from_numpy(draws.integers(0, 2, len(part.truth)))
    part.looks = part.looks | {"mirrored": flips}
    findings = Findings(None, 0)
    (observed,) = observe(source, manifest.classes, 4096, [part])
    part.conclude(observed, findings)
    assert "can't tell the classes" in findings.refused["label_accuracy"] and "0.50" in str(findings.refused)
    assert "not mirrored" in findings.refused["mirrored"]
    assert {"upside_down", "inverted"} <= {metric.name for metric in findings.metrics}
    assert not any(metric.name.startswith(("label_accuracy", "mirrored")) for metric in findings.metrics)


def test_the_classifier_is_made_once_and_again_when_its_file_is_damaged(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made: list[Classifier] = []
    fit = Classifier.fit

    def counted(*arguments: object) -> Classifier:
        made.append(fit(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(Classifier, "fit", counted)
    part = LabelNumbers(real_images(manifest), "val")
    part.prepare()
    (file,) = user_cache().iterdir()
    whole, numbers = file.read_bytes(), part.looks
    assert len(made) == 1 and file.stat().st_mode & 0o777 == 0o600
    part.prepare()
    assert len(made) == 1 and all(torch.equal(numbers[name], part.looks[name]) for name in REFLECTIONS)
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for times, damaged in enumerate((b"", whole[:5000], bytes(flipped), b"pickle" + whole), start=2):
        file.write_bytes(damaged)
        part.prepare()
        assert len(made) == times and file.read_bytes() == whole
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no/such/folder")  # where nothing can be written
    part.prepare()
    assert len(made) == times + 1 and torch.equal(part.classifier.weights, made[0].weights)


def test_other_shards_take_another_classifier(manifest: Manifest) -> None:
    part = LabelNumbers(real_images(manifest), "val")
    part.prepare()
    before = {path.name for path in user_cache().iterdir()}
    part = LabelNumbers(real_images(replace(manifest, digest="0" * 64)), "val")
    part.prepare()
    assert len({path.name for path in user_cache().iterdir()} - before) == 1


def test_flat_training_images_are_refused(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    part = LabelNumbers(real_images(replace(manifest, digest="f" * 64)), "val")
    monkeypatch.setattr(RealImages, "images", lambda *arguments: torch.zeros(len(arguments[2]), 1, 32, 32))
    part.prepare()
    findings = Findings(None, 0)
    source = replace(Taken.of(manifest), pictures=torch.zeros(140, 1, 32, 32))
    (observed,) = observe(source, manifest.classes, 64, [part])
    part.conclude(observed, findings)
    assert findings.refused.keys() == {*NAMES} and "flat" in findings.refused["mirrored"]
