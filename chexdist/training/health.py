"""Decides what a step notes of the health of a training: sums on the device that travel with the losses.

Each is a sum over this rank's images; what all ranks have in common (norms of all-reduced gradients) is added
on rank 0 alone. So the sum over ranks is the same for any world. Nothing here waits for the device."""

import math

import torch
from torch import Tensor

NAMES = (
    *("wins", "real", "real_square", "generated", "generated_square", "penalty"),
    *("critic_norm", "critic_updates", "generator_norm", "generator_updates"),
)
"""wins: pairs of a real and a generated image in which the real one's score is higher, a tie counts half;
real, generated and their squares: scores; penalty: times its weight; norms of gradients before clipping, and
how many."""


class HealthSums:
    """This rank's sums since the last log line, float64 [len(NAMES)] on the device."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    @classmethod
    def zero(cls, device: torch.device) -> "HealthSums":
        return cls(torch.zeros(len(NAMES), dtype=torch.float64, device=device))

    def add_scores(self, scores: Tensor) -> None:
        """Scores [2 N] of pairs: those of N real images, then those of the generated ones."""
        scores = scores.detach().double()
        (real, generated), (real_square, generated_square) = scores.chunk(2), scores.square().chunk(2)
        wins = ((real - generated).sign() + 1) / 2
        sums = torch.stack([wins, real, real_square, generated, generated_square]).sum(1)
        self.values[:5].add_(sums)

    def add_penalty(self, weighted: Tensor) -> None:
        """A part's penalties times their weight, summed."""
        self.values[5].add_(weighted.detach())

    def add_norm(self, network: str, norm: Tensor) -> None:
        """The norm of the all-reduced gradient of `critic` or `generator`; by rank 0 alone."""
        at = NAMES.index(f"{network}_norm")
        self.values[at].add_(norm.detach())
        self.values[at + 1].add_(1)


def rates(sums: list[float], pairs: int, critic_loss: float) -> dict[str, float]:
    """What the log holds, by name, of sums over ranks in the order of NAMES.

    pairs: real images, and generated ones, that the critic has scored; critic_loss: the sum of its losses,
    without the penalty. The penalty's share is weighted penalty / (weighted penalty + |loss|)."""
    of = dict(zip(NAMES, sums, strict=True))
    found = {"health/wins": of["wins"] / pairs}
    for name in ("real", "generated"):
        mean = of[name] / pairs
        found[f"health/score_{name}"] = mean
        found[f"health/score_{name}_std"] = math.sqrt(max(0.0, of[f"{name}_square"] / pairs - mean**2))
    for network in ("critic", "generator"):
        if of[f"{network}_updates"]:
            found[f"health/gradient_{network}"] = of[f"{network}_norm"] / of[f"{network}_updates"]
    total = of["penalty"] + abs(critic_loss)
    if of["penalty"] > 0:
        found["health/penalty_share"] = of["penalty"] / total
    return found
