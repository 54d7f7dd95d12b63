"""Near-copies of training images in an evaluation: planted ones, real X-rays, what is kept of the closest."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest, read_manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.evaluation import near_copies, record
from chexdist.evaluation.copies import Audit
from chexdist.evaluation.findings import Findings
from chexdist.evaluation.measure import EvaluationOptions, observe
from chexdist.evaluation.near_copies import RATE, SHOWN, NearCopies
from chexdist.evaluation.reference import RealImages
from chexdist.metrics.near_copy_rate import COPIES, NONE, verdict
from chexdist.metrics.planted import KINDS, planted
from chexdist.run import layout


@dataclass
class Shown:
    """A source that shows these images [N, 1, S, S], in order, whatever class is asked for."""

    pixels: Tensor
    conditional: bool = False
    config: Config | None = None
    images: int = 0
    brought_from: int | None = None

    def draw(self, rows: range, label: int | None) -> Tensor:
        return self.pixels[rows.start : rows.stop]

    def labels(self, rows: range) -> Tensor:
        return torch.zeros(len(rows), dtype=torch.int64)

    def available(self, label: int | None) -> int | None:
        return len(self.pixels)


@pytest.fixture(scope="module")
def manifest(build_shards: Callable[..., Path]) -> Manifest:
    """72 training images of 32 px, 24 for validation."""
    return read_manifest(str(build_shards(96, 20, split="train=0.75,val=0.25")))


@pytest.fixture(scope="module")
def real(manifest: Manifest) -> RealImages:
    return RealImages(manifest, torch.device("cpu"), Collectives(World(0, 1, 0, 0), timeout_seconds=0))


@pytest.fixture(scope="module")
def audit(manifest: Manifest) -> Iterator[Audit]:
    """Made once, and also what every part here takes."""
    made = Audit(manifest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_copies, "Audit", lambda _: made)
        yield made


def split(real: RealImages, name: str) -> Tensor:
    return real.images(name, range(len(real.manifest.splits[name])))


def found(part: NearCopies, images: Tensor, conditional: bool = False) -> Findings:
    """What the part concludes from these images."""
    part.prepare()
    source = Shown(images, conditional)
    kept = observe(source, part.real.manifest.classes, len(images), [part])[0]
    findings = Findings(None, 0)
    part.conclude(kept, findings)
    return findings


def test_real_images_of_other_patients_are_no_copies(audit: Audit, real: RealImages) -> None:
    held_out = split(real, "val")
    estimate = audit.rate(audit.likeness(held_out))
    assert estimate.value == audit.real_rate().value <= 1 / 24
    assert estimate.low == 0 and audit.real_rate().n_generated == 24
    assert audit.threshold.images in (24, 96) and audit.threshold.rate <= 1 / 25


@pytest.mark.parametrize("kind", KINDS)
def test_planted_copies_are_found_and_the_interval_holds_their_rate(
    audit: Audit, real: RealImages, kind: str
) -> None:
    """All of them, and one in four among held-out X-rays changed in the same way."""
    copies = audit.likeness(planted(split(real, "train"), kind, seed=9))
    others = audit.likeness(planted(split(real, "val"), kind, seed=9))
    for values, rate in ((copies, 1.0), (torch.cat([copies[::9], others]), 0.25), (others, 0.0)):
        estimate = audit.rate(values)
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low <= rate <= estimate.high
        assert (verdict(estimate) == COPIES) is bool(rate)
    assert float((copies > audit.threshold.value).float().mean()) > 0.95
    assert audit.found[kind] >= audit.planted - 1


def test_no_sign_of_copies_takes_enough_images(audit: Audit) -> None:
    assert verdict(audit.rate(torch.zeros(256))) == NONE


def test_the_threshold_is_no_lower_than_that_of_held_out_images(audit: Audit, real: RealImages) -> None:
    assert not (audit.likeness(split(real, "val")) > audit.threshold.value).any()


@pytest.fixture(scope="module")
def mixed(real: RealImages) -> Tensor:
    """Four mirrored training images among held-out ones."""
    copies = split(real, "train")[[5, 17, 40, 63]].flip(3)
    return torch.cat([split(real, "val")[:10], copies, split(real, "val")[10:]])


@pytest.fixture(scope="module")
def findings(real: RealImages, mixed: Tensor, audit: Audit) -> Findings:
    return found(NearCopies(real), mixed)


def test_the_rate_stands_beside_that_of_real_x_rays(findings: Findings, manifest: Manifest) -> None:
    rate, baseline = findings.metrics
    assert (rate.name, baseline.name) == (RATE, f"{RATE}/real")
    assert rate.value == 4 / 28 and rate.n == 28 and rate.n_real == 72
    assert rate.real_baseline == baseline.value == 0 and baseline.n == 24
    protocol = findings.protocols[str(rate.protocol)]
    assert protocol["n"] == 28 and protocol["planted"] == 16 and protocol["calibrating"] == 96


def test_the_closest_pairs_are_named(findings: Findings, manifest: Manifest, real: RealImages) -> None:
    closest = findings.closest
    assert len(closest) == SHOWN
    assert [each.likeness for each in closest] == sorted((each.likeness for each in closest), reverse=True)
    keys = manifest.splits["train"].key
    expected = dict(zip(range(10, 14), (str(keys[i]) for i in (5, 17, 40, 63)), strict=True))
    assert {each.image: each.key for each in closest[:4]} == expected
    for each in closest[:4]:
        assert torch.equal(each.picture, each.training.flip(2))


def test_only_the_first_images_are_audited(
    real: RealImages, mixed: Tensor, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of any class, and no further ones of each class."""
    monkeypatch.setattr(near_copies, "AUDITED", 12)
    limited = found(NearCopies(real), mixed, conditional=True)
    assert (limited.metrics[0].n, limited.metrics[0].value) == (12, 2 / 12)
    assert {each.image for each in limited.closest} <= set(range(12))


def test_an_evaluation_keeps_the_closest_pairs(
    findings: Findings, manifest: Manifest, mixed: Tensor, tmp_path: Path
) -> None:
    """Likeness in the numbers; real X-rays only in a folder that no class can be called."""
    options = EvaluationOptions("val", 28, 16, 0)
    folder = record.write(tmp_path, {}, Shown(mixed), manifest, options, findings)
    document = json.loads((folder / layout.EVALUATION).read_text())
    assert [each["image"] for each in document["closest"]] == [each.image for each in findings.closest]
    assert document["closest"][0]["likeness"] == pytest.approx(1, abs=0.01)
    picture = layout.closest(folder)
    assert picture == folder / "real" / "closest.png"
    drawn = np.asarray(Image.open(picture).convert("L"))
    assert drawn.shape == (2 * 34 + 2, 8 * 34 + 2)
    assert np.array_equal(drawn[2:34, 2:34], drawn[2:34, 36:68][:, ::-1])  # generated, training
