"""Decides which part of the global batch a rank takes, and how that part is cut for gradient accumulation.

The unit is a ghost batch: `group` consecutive global-batch indices, over which batch norm takes its
statistics (ghost batch norm, Hoffer 2017). Shares and micro-batches are whole groups, so no statistic depends
on world size or accumulation."""

import itertools


def share(batch: int, group: int, world_size: int, rank: int) -> range:
    """The global-batch indices of `rank`. Over all ranks: disjoint, complete, in order, uneven by one group
    at most.
    """
    groups = batch // group
    return range(rank * groups // world_size * group, (rank + 1) * groups // world_size * group)


def micro_batches(indices: range, group: int, accumulate: int) -> list[range]:
    """`indices` cut into `accumulate` runs of whole groups, in order."""
    groups = len(indices) // group
    edges = [indices.start + part * groups // accumulate * group for part in range(accumulate + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]
