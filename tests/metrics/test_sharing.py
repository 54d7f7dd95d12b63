"""Ranks that share the sums of KID compute each part once, and have the digits of one process."""

import time
from unittest import mock

import pytest
import torch
from helpers.worlds import run_world, run_worlds
from torch import Tensor

from chexdist.distributed.world import World
from chexdist.metrics import kid
from chexdist.metrics.sharing import Part, shared

PATIENTS = [f"patient {i // 2}" for i in range(1400)]


def features(seed: int, n: int) -> Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def measured(world: World) -> tuple[list[bytes], list[tuple[int, int]]]:
    """KID of two generators with its bootstrap, and which parts (of how many, number) this rank computed."""
    from accelerate import Accelerator

    from chexdist.distributed.collectives import Collectives

    Accelerator(cpu=True)
    computed: list[tuple[int, int]] = []
    collectives = Collectives(world, 60)

    def share(count: int, part: Part) -> list[Tensor]:
        def noted(number: int) -> Tensor:
            computed.append((count, number))
            return part(number)

        return collectives.share(count, noted)

    with shared(share):
        found = [kid.measure(features(0, 1400), features(seed, 600), PATIENTS, seed=1) for seed in (1, 2)]
    texts = [f"{each.value!r} {each.low!r} {each.high!r}".encode() for each in found]
    return texts + [each.draws.numpy().tobytes() for each in found if each.draws is not None], computed


def test_world_sizes_have_the_same_digits_and_no_part_is_computed_twice() -> None:
    worlds = run_worlds(measured, {1: (), 2: (), 3: ()})
    numbers, parts = worlds[1][0]
    assert len(parts) == 3 + 2 * (3 + 2)  # blocks of the reference once; twice between, and of generated ones
    for ranks in worlds.values():
        assert all(rank[0] == numbers for rank in ranks)
        assert sorted(part for rank in ranks for part in rank[1]) == sorted(parts)
    assert all(0 < len(rank[1]) < len(parts) for rank in worlds[2] + worlds[3])


def test_the_reference_is_summed_up_once() -> None:
    real = features(2, 1400)
    with mock.patch.object(kid, "_within", wraps=kid._within) as within:
        for seed in (3, 4, 5):
            kid.measure(real, features(seed, 64), PATIENTS)
    assert sorted(len(call.args[0].features) for call in within.call_args_list) == [64, 64, 64, 1400]


def busy(world: World) -> tuple[float, str]:
    """Seconds that this rank computes for KID of 512 images against 20,000 real ones, and the number."""
    from accelerate import Accelerator

    from chexdist.distributed.collectives import Collectives

    Accelerator(cpu=True)
    collectives = Collectives(world, 240)
    real = torch.randn(20_000, 1280, generator=torch.Generator().manual_seed(0))
    generated = torch.randn(512, 1280, generator=torch.Generator().manual_seed(1))
    patients = [f"patient {i // 2}" for i in range(len(real))]
    collectives.gather(world.rank)
    start = time.thread_time()
    with shared(collectives.share):
        found = kid.measure(real, generated, patients)
    return time.thread_time() - start, repr(found.value)


@pytest.mark.slow
def test_two_ranks_take_half_as_long_for_many_references() -> None:
    """In processor time of a thread, which other work on the machine changes little."""
    ((alone, digits),) = run_world(1, busy, limit=500)
    both = run_world(2, busy, limit=500)
    print(f"one rank {alone:.1f} s, two {both[0][0]:.1f} and {both[1][0]:.1f} s")
    assert all(number == digits for _, number in both)
    assert max(seconds for seconds, _ in both) <= 0.6 * alone
