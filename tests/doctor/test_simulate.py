"""A simulated world: who reads what, and the formula for an epoch's length, recomputed here from scratch."""

from pathlib import Path

import numpy as np
import pytest
from helpers.doctors import Patient, faults, words
from helpers.many_samples import write_many
from hypothesis import given
from hypothesis import strategies as st

from chexdist.config.load import load_config
from chexdist.config.tree import Config
from chexdist.data.cache import Shard
from chexdist.data.manifest import Manifest, Split, read_manifest
from chexdist.doctor import simulate as simulation
from chexdist.doctor.finding import Findings, Note, Verdict
from chexdist.doctor.simulate import Constants, read_epoch, simulate, with_enough_groups
from shards import manifest as written

GRADIENTS = (2_000_000, 1_000_000)


def config(**more: object) -> Config:
    settings = {"train.batch": 16, "train.group": 2, **{key.replace("__", "."): more[key] for key in more}}
    return load_config(
        "wgan-gp", [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    )


def split(shard_sizes: list[int]) -> Split:
    samples = sum(shard_sizes)
    shard = np.repeat(np.arange(len(shard_sizes)), shard_sizes)
    size = np.arange(1, samples + 1)
    zeros, empty = np.zeros(samples, np.int64), np.zeros(samples, np.str_)
    shards = tuple(Shard(f"{number}.tar", 512, "0" * 64) for number in range(len(shard_sizes)))
    files = tuple(Path(shard.name) for shard in shards)
    return Split("train", shards, files, shard, zeros, size, zeros, zeros, empty, empty, empty)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    groups=st.integers(1, 12),
    group=st.integers(1, 5),
    ranks=st.integers(1, 12),
    window=st.integers(0, 3),
)
def test_every_sample_once_whatever_the_world(
    sizes: list[int], groups: int, group: int, ranks: int, window: int
) -> None:
    """Against counting position after position of the stream."""
    ranks = min(ranks, groups)
    settings = config(train__batch=groups * group, train__group=group, data__window=window)
    part, samples = split(sizes), sum(sizes)
    epoch = read_epoch(part, settings, ranks)
    assert epoch.times.tolist() == [1] * samples
    place_of = [
        next(rank for rank, mine in enumerate(epoch.shares) if i in mine) for i in range(groups * group)
    ]
    expected = [place_of[position % (groups * group)] for position in range(samples)]
    assert epoch.images.tolist() == [expected.count(rank) for rank in range(ranks)]
    assert epoch.bytes.sum() == part.size.sum()
    assert all(
        shards <= min(images, len(sizes)) for shards, images in zip(epoch.shards, epoch.images, strict=True)
    )


def simulated(
    manifest: Manifest, settings: Config, ranks: int, constants: Constants | None
) -> tuple[Findings, list[str]]:
    findings = Findings()
    note = Note("simulation", findings.found)
    return findings, list(simulate(note, settings, manifest, ranks, constants, GRADIENTS))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """3,000 training samples."""
    return read_manifest(str(write_many(tmp_path_factory.mktemp("few"), 3, 1000)))


def test_the_made_manifest_is_one_that_the_builder_could_have_written(tmp_path: Path) -> None:
    found = written.read(write_many(tmp_path, 2, 10))
    assert found.splits["train"].samples == 20


@pytest.mark.parametrize("bandwidth", [None, 2e8])
def test_the_epoch_s_length_follows_from_the_formula(few: Manifest, bandwidth: float | None) -> None:
    """3,000 images in 188 batches of 16, by 4 ranks of 4 images: 4 x 20 ms + 2 x 3/4 x 2 MB / b."""
    constants = Constants(seconds=0.020, reading=400.0, bandwidth=bandwidth)
    findings, lines = simulated(few, config(train__n_critic=2), 4, constants)
    batch = 4 * 0.020 + 2 * 3 / 4 * (1_000_000 + 2_000_000 / 2) / (bandwidth or 1e9)
    assert f"an epoch: about {188 * batch:.1f} s, EXTRAPOLATED" in "\n".join(lines)
    assert any(("ASSUMED" in line) == (bandwidth is None) for line in lines if "b = " in line)
    assert {finding.verdict for finding in findings.found} == {Verdict.OK}


def test_reading_decides_where_it_is_slower(few: Manifest) -> None:
    """Two loaders of 10 images/s, 4 images a batch: 0.2 s, where computing takes 4 ms."""
    _, lines = simulated(few, config(data__workers=2), 4, Constants(0.001, 10.0, None))
    assert f"an epoch: about {188 * 0.2:.1f} s" in "\n".join(lines)


def test_without_constants_no_time_is_reported(few: Manifest) -> None:
    _, lines = simulated(few, config(), 8, None)
    assert not any("epoch: about" in line for line in lines) and any("rank 7: " in line for line in lines)


def test_an_order_that_loses_a_sample_is_a_fault(few: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    true = simulation.batch_samples

    def twice(*arguments: object) -> np.ndarray:
        batch = true(*arguments).copy()  # type: ignore[arg-type]
        batch[0] = batch[1]
        return batch

    monkeypatch.setattr(simulation, "batch_samples", twice)
    findings, _ = simulated(few, config(), 4, None)
    assert (
        findings.found[0].verdict == Verdict.FAULT
        and "376 samples would not be read" in findings.found[0].text
    )


def test_shares_that_overlap_are_a_fault(few: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "share", lambda batch, group, ranks, rank: range(batch // ranks))
    findings, _ = simulated(few, config(), 4, None)
    assert findings.found[0].verdict == Verdict.FAULT


def test_the_batch_that_so_many_ranks_need() -> None:
    findings = Findings()
    note = Note("simulation", findings.found)
    assert with_enough_groups(note, config(), 8).train.batch == 16 and not findings.found
    assert with_enough_groups(note, config(), 9).train.batch == 18
    (fault,) = findings.found
    assert fault.verdict == Verdict.FAULT and fault.cure.startswith("set train.batch 18")


def test_too_many_ranks_for_the_batch_is_a_fault_and_simulated_all_the_same(
    patient: Patient, shards: Path, tmp_path: Path
) -> None:
    code, lines = patient([*words(shards, tmp_path / "run"), "--simulate-world", "64"])
    (fault,) = faults(lines)
    assert code == 1 and "train.batch 16 has 2 groups; what follows is with train.batch 512" in fault
    assert "cure: set train.batch 512, or lower train.group" in fault
    assert any("with batches of 512" in line and "recipe" in line for line in lines)
    assert any("64 ranks read each of 72 samples exactly once" in line for line in lines)
    assert any("64 ranks, train.batch 512" in line for line in lines)
