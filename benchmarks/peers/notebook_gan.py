"""The notebook's DCGAN as a peer: no package, and the level of what is found without a framework."""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from benchmarks.notebook import Dcgan, critic, generator
from benchmarks.peers.peer import Draw, Peer

LATENT, WIDTH, COLOURS = 128, 32, 3
BETAS = (0.5, 0.999)


class NotebookGan(Peer):
    """The notebook's networks and loop, in gray as three channels."""

    def __init__(self, size: int, training_images: int, device: torch.device) -> None:
        super().__init__(size, training_images, device)
        widths = [WIDTH * min(2**level, 8) for level in range(size.bit_length() - 3)]
        networks = generator(widths, LATENT, COLOURS), critic(widths, COLOURS, True)
        self.loop = Dcgan(*networks, LATENT, device, BETAS, 1)
        self.networks = {"generator": self.loop.generator, "critic": self.loop.critic}
        self.optimizers = {"generator": self.loop.optimizer_g, "critic": self.loop.optimizer_d}

    def train(self, batches: Iterable[Tensor]) -> None:
        for real in batches:
            images = (2 * real - 1).expand(-1, COLOURS, -1, -1).to(self.device)
            self.loop.batch(self.steps, images)
            self.steps += 1

    def draws(self) -> Mapping[str, Draw]:
        return {
            "training mode": lambda n: self._draw(n, True),
            "evaluation mode": lambda n: self._draw(n, False),
        }

    def _draw(self, number: int, training: bool) -> Tensor:
        network = copy.deepcopy(self.loop.generator).train(training)
        drawn: Tensor = network(torch.randn(number, LATENT, 1, 1, device=self.device))
        return (drawn.mean(1, keepdim=True) + 1) / 2
