"""Decides what is said of gradients or weights that are not finite: which ranks had them first, and the cure.

Gradients are the sum over ranks, so one rank's NaN is in those of all; its losses are its own."""

import platform
from dataclasses import dataclass

from torch import Tensor

SHOWN = 3


@dataclass(frozen=True)
class Seen:
    """What one rank has of its own: its node, and whether each of these is finite there."""

    node: str
    finite: dict[str, bool]

    @classmethod
    def of(cls, sums: Tensor, weight_norm: Tensor) -> "Seen":
        """By this rank's sums of losses (critic, penalty, generator, ...) since the last log line, and the
        norm of its weights now.
        """
        names = ("loss of the critic", "penalty", "loss of the generator", "weights")
        values = [*sums[:3].isfinite().tolist(), bool(weight_norm.isfinite())]
        return cls(platform.node(), dict(zip(names, values, strict=True)))


def cause(ranks: list[Seen], precision: str) -> str:
    """Where the first value that is not finite was, what was finite there, and the cure; `ranks` in order,
    `precision` as in `train.precision`.
    """
    cure = "lower optim.*.lr" + ("" if precision == "no" else ", or set train.precision no")
    bad = {rank: seen for rank, seen in enumerate(ranks) if not all(seen.finite.values())}
    if len(bad) == len(ranks):
        return f"on all ranks at once; {cure}"
    if not bad:
        return f"in a backward pass, since losses and weights still are finite on all ranks; {cure}"
    named = [f"rank {rank} on {seen.node}: {_listed(seen)}" for rank, seen in list(bad.items())[:SHOWN]]
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return (
        f"only on {'; '.join(named)}{more}. The other {len(ranks) - len(bad)} of {len(ranks)} ranks are "
        "finite, so a faulty device is likelier than the settings: leave that node out, then resume"
    )


def _listed(seen: Seen) -> str:
    by_value = {
        value: [name for name, each in seen.finite.items() if each is value] for value in (True, False)
    }
    finite = ", ".join(by_value[True]) or "nothing"
    return f"not finite is {', '.join(by_value[False])}, finite {finite}"
