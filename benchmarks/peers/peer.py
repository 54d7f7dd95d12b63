"""What a peer is to the benchmark: networks and optimizers that train on batches, continue, and draw."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Draw = Callable[[int], Tensor]
"""Number -> images [number, 1, size, size] in [0, 1]."""


class Peer:
    """A GAN of another project; a subclass is its networks, losses and loop.

    networks, optimizers: all that is trained, by name; steps: batches so far; numbers: other state; width:
    in words, what was narrowed, for the table.
    """

    width = "as published"

    def __init__(self, size: int, training_images: int, device: torch.device) -> None:
        self.size, self.training_images, self.device = size, training_images, device
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.numbers: dict[str, float] = {}
        self.steps = 0

    def train(self, batches: Iterable[Tensor]) -> None:
        """A step for each batch [N, 1, size, size] in [0, 1], on the CPU."""
        raise NotImplementedError

    def draws(self) -> Mapping[str, Draw]:
        """By name, the ways to draw from it; the best of them counts."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """All that training depends on, of tensors and numbers only."""
        return {
            "steps": self.steps,
            "numbers": self.numbers,
            "networks": {name: each.state_dict() for name, each in self.networks.items()},
            "optimizers": {name: each.state_dict() for name, each in self.optimizers.items()},
            "random": {"python": random.getstate(), "torch": torch.get_rng_state()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.steps, self.numbers = state["steps"], state["numbers"]
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        version, internal, gauss = state["random"]["python"]
        random.setstate((version, tuple(internal), gauss))
        torch.set_rng_state(state["random"]["torch"])
