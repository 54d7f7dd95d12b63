"""Decides every random number but the initial weights: a function of (seed, draw, step, index in the batch).

Philox (Salmon 2011, "Parallel random numbers: as easy as 1, 2, 3") is a block cipher in counter mode, so any
row of any draw can be computed without the rows before it. Each rank computes only the rows of its share, and
the rows of all ranks, in order, are the same bytes at any world size and accumulation. No generator is ever
carried along or checkpointed."""

from enum import IntEnum

import numpy as np

WORDS_PER_BLOCK = 4  # Philox4x64 gives four 64-bit words a counter value


class Draw(IntEnum):
    """What a random number is for. The values are part of the stream: never renumber them."""

    ORDER = 0
    CRITIC_LATENT = 1
    INTERPOLATION = 2
    AUGMENT_REAL = 3
    AUGMENT_FAKE = 4
    GENERATOR_LATENT = 5
    GENERATOR_LABEL = 6
    AUGMENT_GENERATED = 7
    SAMPLE_LATENT = 8
    SAMPLE_LABEL = 9
    CALIBRATION_LATENT = 10
    CALIBRATION_LABEL = 11
    AUGMENT_REAL_FOR_GENERATOR = 12


def words(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
    """Random 64-bit words, uint64 [len(rows), width]: row i depends on (seed, draw, step, rows[i]) only."""
    blocks = -(-width // WORDS_PER_BLOCK)
    stream = np.random.Philox(key=[seed, int(draw)], counter=[rows.start * blocks, 0, step, 0])
    drawn = stream.random_raw(len(rows) * blocks * WORDS_PER_BLOCK)
    return drawn.reshape(len(rows), blocks * WORDS_PER_BLOCK)[:, :width]


def uniform(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
    """float64 [len(rows), width], uniform in [0, 1) with 53 random bits."""
    return (words(seed, draw, step, rows, width) >> np.uint64(11)) * 2.0**-53


def normal(seed: int, draw: Draw, step: int, rows: range, width: int) -> np.ndarray:
    """float64 [len(rows), width], standard normal, by Box and Muller (1958): a fixed number of words each.

    numpy's own ziggurat would reject some words, and the rows after a rejection would shift.
    """
    pairs = -(-width // 2)
    u = uniform(seed, draw, step, rows, 2 * pairs)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, :pairs]))
    angle = 2.0 * np.pi * u[:, pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :width]


def labels(seed: int, draw: Draw, step: int, rows: range, class_counts: tuple[int, ...]) -> np.ndarray:
    """Class labels, int64 [len(rows)], in the proportions of `class_counts` (the training split's)."""
    edges = np.cumsum(class_counts) / sum(class_counts)
    return np.searchsorted(edges[:-1], uniform(seed, draw, step, rows, 1)[:, 0], side="right").astype(
        np.int64
    )
