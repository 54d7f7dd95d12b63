"""What happens in a trial: a pure function of its seed, so that the seed alone repeats it."""

import random
from dataclasses import dataclass

COMMON = ("kill", "pause", "terminate", "interrupt", "full disk")
PROCESSES = ("kill", "pause", "terminate", "interrupt")
RANKS = (*COMMON, "kill all", "terminate all", "full shm", "slow disk", "clock")
SERVER = ("corrupt shard", "cut answer", "silent server", "server error", "lost shard")
TOGETHER = ("freeze", "cut link", "one rank's clock")
"""Of two ranks and more."""
LAUNCHER = ("launcher killed", "launcher terminated")
PLANTED = ("slow disk", "clock", "one rank's clock", *SERVER)
"""What is so from the start on."""
TARGETS: dict[str, dict[int, tuple[str, ...]]] = {
    "train": {1: RANKS, 2: (*RANKS, *TOGETHER), 4: (*RANKS, *TOGETHER)},
    "launched": {1: LAUNCHER, 2: LAUNCHER},
    "build": {size: (*COMMON, "kill all", "kill child", "pause child") for size in (1, 2, 3)},
    "remote": {1: (*COMMON, "slow disk", *SERVER), 2: (*COMMON, "kill all", "freeze", *SERVER)},
    "evaluate": {1: ("kill", "terminate", "full disk", "lost shard", "corrupt shard")},
    "generate": {1: (*COMMON, "lost shard", "corrupt shard")},
}
"""What may go wrong, by what is disturbed and by its ranks or workers."""
MOST = 3


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    `at`: when, as a share of an undisturbed start's seconds; 0 for what is `PLANTED`. `rank`: which process.
    `amount`: in [0, 1], how long or how often.
    """

    kind: str
    at: float
    rank: int
    amount: float

    def __str__(self) -> str:
        return f"{self.kind} (rank {self.rank}, at {self.at:.2f}, amount {self.amount:.2f})"


@dataclass(frozen=True)
class Trial:
    """One start of a command that faults hit, in the order of their time."""

    seed: int
    target: str
    size: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"{self.target} x{self.size}: {', '.join(map(str, self.faults))}"


def _rounds() -> list[tuple[str, int, str]]:
    """Every fault of every target at every size, once, mixed so that a few in a row are of all kinds."""
    every = [
        (target, size, kind)
        for target, sizes in TARGETS.items()
        for size, kinds in sizes.items()
        for kind in kinds
    ]
    random.Random(0).shuffle(every)
    return every


ROUND = _rounds()


def trial(seed: int) -> Trial:
    """The trial of a seed. Seeds in a row go through `ROUND`; what else goes wrong, when, where is drawn."""
    draw = random.Random(seed)
    target, size, first = ROUND[seed % len(ROUND)]
    kinds = TARGETS[target][size]
    kinds = [first, *draw.sample(kinds, draw.choice((0, 0, 1, MOST - 1)) if len(kinds) >= MOST else 0)]
    faults = [
        Fault(
            kind,
            0.0 if kind in PLANTED else draw.random(),
            draw.randrange(size),
            draw.random(),
        )
        for kind in dict.fromkeys(kinds)
    ]
    return Trial(seed, target, size, tuple(sorted(faults, key=lambda fault: fault.at)))
