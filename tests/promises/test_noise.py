"""Noise: every random number is a function of (seed, draw, step, index in the global batch)."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.cases import BATCH, Case, full_case, moving_case, paired_case
from helpers.checks import check_same_draws
from helpers.training import Trained, train_cases
from helpers.worlds import run_world, run_worlds
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from chexdist.data.loader import batches, to_unit_range
from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.world import World
from chexdist.training.networks import Gan
from chexdist.training.step import Step

SEEDS = st.integers(0, 2**63 - 1)
STEPS = st.integers(0, 2**40)
DRAWS = st.sampled_from(Draw)


def philox4x64(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, ...]:
    """One block of Philox4x64-10 (Salmon 2011, sec. 3.3), from the paper and in plain integers."""
    mask, (k0, k1), (c0, c1, c2, c3) = 2**64 - 1, key, counter
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c0, 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c2, 2**64)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return c0, c1, c2, c3


def test_philox_known_answer() -> None:
    """The vector for zeros that the authors publish with their library."""
    assert philox4x64((0, 0), (0, 0, 0, 0)) == (
        *(0x16554D9ECA36314C, 0xDB20FE9D672D0FDC),
        *(0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    )


@settings(max_examples=30)
@given(SEEDS, DRAWS, STEPS, st.integers(0, 2**20), st.integers(1, 9))
def test_words_are_philox_blocks(seed: int, draw: Draw, step: int, row: int, width: int) -> None:
    blocks = -(-width // 4)
    expected = [
        word
        for block in range(blocks)
        for word in philox4x64((seed, int(draw)), (row * blocks + block + 1, 0, step, 0))
    ]
    assert noise.words(seed, draw, step, range(row, row + 1), width)[0].tolist() == expected[:width]


@settings(max_examples=50)
@given(SEEDS, DRAWS, STEPS, st.integers(1, 20), st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_any_partition_gives_the_same_bytes(
    seed: int, draw: Draw, step: int, width: int, lengths: list[int]
) -> None:
    edges = np.cumsum([0, *lengths]).tolist()
    parts = [range(start, stop) for start, stop in itertools.pairwise(edges)]
    for numbers in (
        lambda rows: noise.normal(seed, draw, step, rows, width),
        lambda rows: noise.uniform(seed, draw, step, rows, width),
        lambda rows: noise.labels(seed, draw, step, rows, (3, 1, 2)),
    ):
        joined = np.concatenate([numbers(part) for part in parts])
        assert joined.tobytes() == numbers(range(edges[-1])).tobytes()


@given(SEEDS, DRAWS, STEPS, st.data())
def test_another_seed_draw_or_step_is_another_stream(
    seed: int, draw: Draw, step: int, data: st.DataObject
) -> None:
    other = data.draw(
        st.one_of(
            st.tuples(SEEDS.filter(lambda value: value != seed), st.just(draw), st.just(step)),
            st.tuples(st.just(seed), DRAWS.filter(lambda value: value != draw), st.just(step)),
            st.tuples(st.just(seed), st.just(draw), STEPS.filter(lambda value: value != step)),
        )
    )
    here, there = noise.words(seed, draw, step, range(16), 8), noise.words(*other, range(16), 8)
    assert not np.isin(here, there).any()


def test_draw_numbers_are_kept() -> None:
    """They are part of the stream: another number would be another run."""
    assert {draw.name: int(draw) for draw in Draw} == {
        "ORDER": 0,
        "CRITIC_LATENT": 1,
        "INTERPOLATION": 2,
        "AUGMENT_REAL": 3,
        "AUGMENT_FAKE": 4,
        "GENERATOR_LATENT": 5,
        "GENERATOR_LABEL": 6,
        "AUGMENT_GENERATED": 7,
        "SAMPLE_LATENT": 8,
        "SAMPLE_LABEL": 9,
        "CALIBRATION_LATENT": 10,
        "CALIBRATION_LABEL": 11,
        "AUGMENT_REAL_FOR_GENERATOR": 12,
    }


@pytest.mark.parametrize("width", [1, 7, 8])
def test_normal_is_normal(width: int) -> None:
    drawn = noise.normal(1, Draw.CRITIC_LATENT, 2, range(8000), width)
    for column in drawn.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    assert np.isfinite(drawn).all()
    neighbours = np.corrcoef(np.vstack([drawn[:-1].T, drawn[1:].T])) - np.eye(2 * width)
    assert np.abs(neighbours).max() < 5 / np.sqrt(8000)


def test_uniform_is_uniform() -> None:
    drawn = noise.uniform(1, Draw.INTERPOLATION, 2, range(8000), 2)
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=5).filter(any),
    SEEDS,
)
@settings(max_examples=30)
def test_labels_follow_the_split(class_counts: list[int], seed: int) -> None:
    labels = noise.labels(seed, Draw.GENERATOR_LABEL, 0, range(4000), tuple(class_counts))
    found = np.bincount(labels, minlength=len(class_counts)) / 4000
    assert labels.dtype == np.int64 and len(found) == len(class_counts)
    np.testing.assert_allclose(
        found, np.array(class_counts) / sum(class_counts), atol=5 * 0.5 / np.sqrt(4000)
    )
    assert not found[np.array(class_counts) == 0].any()


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(images=40, samples_per_shard=14)


@pytest.fixture(scope="module")
def alone(shards: Path) -> Trained:
    ((result,),) = run_world(1, train_cases, shards, [(full_case(), 1, "float64")])
    return result


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_step_draws_the_same_bytes_in_any_world(world_size: int, alone: Trained, shards: Path) -> None:
    assert {name for name, _ in alone.draws} == {
        *("CRITIC_LATENT", "INTERPOLATION", "AUGMENT_REAL", "AUGMENT_FAKE"),
        *("GENERATOR_LATENT", "GENERATOR_LABEL", "AUGMENT_GENERATED"),
    }
    jobs = [(full_case(), accumulate, dtype) for accumulate in (1, 2) for dtype in ("float64", "float32")]
    ranks = run_world(world_size, train_cases, shards, jobs)
    for index, (_, accumulate, dtype) in enumerate(jobs):
        draws = [rank[index].draws for rank in ranks]
        reference = {
            key: [
                (part, numbers.astype(dtype) if numbers.dtype == np.float64 else numbers)
                for part, numbers in parts
            ]
            for key, parts in alone.draws.items()
        }
        check_same_draws(reference, draws, BATCH, f"world {world_size}, accumulate {accumulate}, {dtype}")


def _generator_labels(world: World, shards: Path) -> list[tuple[list[int], list[int]]]:
    """For each batch: the labels of this rank's real images, and those of the generator's images."""
    config = paired_case().config()
    accelerator, manifest = make_accelerator(world, 60), read_manifest(str(shards))
    step = Step(Gan(config, manifest.class_counts("train"), accelerator), world)
    seen: list[int] = []
    generate = step.gan.ddp_generator.forward
    data = batches(
        SampleReader(manifest, "train", 64),
        seed=config.train.seed,
        window=0,
        batch=BATCH,
        share=step.share,
        first=0,
        workers=0,
    )
    found = []
    for t, (pixels, labels) in zip(range(3), data, strict=False):
        images = to_unit_range(pixels, manifest.bits, step.dtype)
        step.critic_gradients(t, images, labels)
        step.gan.ddp_generator.forward = lambda latent, label: (
            seen.extend(label.tolist()) or generate(latent, label)
        )
        step.generator_gradients(t, images, labels)
        step.gan.ddp_generator.forward = generate
        found.append((labels.tolist(), seen[:]))
        seen.clear()
    return found


@pytest.mark.parametrize("world_size", [1, 3])
def test_pairs_are_of_one_class(world_size: int, shards: Path) -> None:
    """A loss of pairs: generated image i is of real image i's class, and the generator's loss sees both."""
    pairs = [pair for rank in run_world(world_size, _generator_labels, shards) for pair in rank]
    assert all(real == generated for real, generated in pairs)
    assert len({label for real, _ in pairs for label in real}) == 2


@pytest.mark.parametrize("case", [paired_case(), moving_case()], ids=["dcgan", "residual"])
def test_a_loss_of_pairs_draws_the_same_bytes_in_any_world(case: Case, shards: Path) -> None:
    """In the second case some images are augmented, by a draw of their own."""
    jobs = [(case, accumulate, "float64") for accumulate in (1, 2)]
    worlds = run_worlds(train_cases, {size: (shards, jobs) for size in (1, 2, 3, 4)})
    alone, batch = worlds[1][0][0], case.config().train.batch
    names = {name for name, _ in alone.draws}
    assert "AUGMENT_REAL_FOR_GENERATOR" in names and "GENERATOR_LABEL" not in names
    for size, number in itertools.product(worlds, range(len(jobs))):
        draws = [rank[number].draws for rank in worlds[size]]
        check_same_draws(alone.draws, draws, batch, f"pairs, {number}, world {size}")
