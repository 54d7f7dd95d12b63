"""Decides the order of samples: which sample is at which position of the endless training stream.

The stream is the concatenation of the epochs' permutations. Which samples are in global batch t is a function
of (shard sizes, seed, batch size, window, t) and of nothing else: no rank, no worker, no restart appears in
this file.
"""

from functools import lru_cache

import numpy as np

from chexdist.distributed import noise


def shard_order(shards: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of the shards in one epoch, int64 [shards]."""
    keys = noise.words(seed, noise.Draw.ORDER, epoch, range(shards), 1)[:, 0]
    return np.argsort(keys, kind="stable")


@lru_cache(maxsize=4)
def epoch_order(shard_sizes: tuple[int, ...], seed: int, epoch: int, window: int) -> np.ndarray:
    """The permutation of one epoch, int64 [sum(shard_sizes)].

    A sample is numbered by its position in the manifest: shard after shard, tar order within a shard. Shards
    are permuted, then samples within each `window` consecutive shards of that permutation; window 0 means all
    shards at once. The keys are sorted Philox words, because numpy promises the words, but not
    `Generator.permutation`, in every version.
    """
    shards, samples = len(shard_sizes), sum(shard_sizes)
    keys = noise.words(seed, noise.Draw.ORDER, epoch, range(shards, shards + samples), 1)[:, 0]
    position_of_shard = np.empty(shards, np.int64)
    position_of_shard[shard_order(shards, seed, epoch)] = np.arange(shards)
    window_of_shard = position_of_shard // (window or shards)
    order = np.lexsort((keys, np.repeat(window_of_shard, shard_sizes)))
    order.flags.writeable = False
    return order


def batch_samples(shard_sizes: tuple[int, ...], seed: int, window: int, batch: int, t: int) -> np.ndarray:
    """The samples of global batch t, int64 [batch]: stream positions t * batch to (t + 1) * batch.

    A batch may straddle two epochs, or several when the split is smaller than a batch.
    """
    samples = sum(shard_sizes)
    taken, position, end = [], t * batch, (t + 1) * batch
    while position < end:
        epoch, offset = divmod(position, samples)
        part = epoch_order(shard_sizes, seed, epoch, window)[offset : offset + end - position]
        taken.append(part)
        position += len(part)
    return np.concatenate(taken)
