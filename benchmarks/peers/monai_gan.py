"""MONAI's GanTrainer with its Generator and Discriminator, as its tutorial of GANs on MedNIST sets them."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.peer import Draw, Peer

LATENT, RATE, BETAS, CRITIC_STEPS = 64, 2e-4, (0.5, 0.999), 5
"""Of the tutorial, as are the widths below; its batches of 300 would be 66 steps in 20,000 images."""


class MonaiGan(Peer):
    """Residual networks with instance norm, binary cross-entropy, five steps of the critic a batch."""

    def __init__(self, size: int, training_images: int, device: torch.device) -> None:
        super().__init__(size, training_images, device)
        nets, start = import_module("monai.networks.nets"), size // 8
        initialise = import_module("monai.networks").normal_init
        self.generator = nets.Generator(LATENT, (LATENT, start, start), [32, 16, 8, 1], [2, 2, 2, 1])
        self.generator.conv.add_module("activation", nn.Sigmoid())
        self.critic = nets.Discriminator(
            (1, size, size), (8, 16, 32, 64, 1), (2, 2, 2, 2, 1), num_res_units=1, kernel_size=5
        )
        self.networks = {"generator": self.generator, "critic": self.critic}
        for name, network in self.networks.items():
            network.apply(initialise).to(device)
            self.optimizers[name] = torch.optim.Adam(network.parameters(), RATE, betas=BETAS)

    def train(self, batches: Iterable[Tensor]) -> None:
        held = list(batches)  # GanTrainer asks its loader for lengths and for the size of a batch
        images: Any = torch.cat(held)
        loader: DataLoader[Tensor] = DataLoader(images, batch_size=len(held[0]), generator=torch.Generator())
        import_module("monai.engines").GanTrainer(
            self.device,
            1,
            loader,
            self.generator,
            self.optimizers["generator"],
            self._generator_loss,
            self.critic,
            self.optimizers["critic"],
            self._critic_loss,
            d_prepare_batch=lambda batch, device, *_, **__: batch.to(device),
            d_train_steps=CRITIC_STEPS,
            latent_shape=LATENT,
            decollate=False,
        ).run()
        self.steps += len(held)

    def _critic_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        scores = self.critic(real), self.critic(fake.detach())
        wanted = torch.ones_like(scores[0]), torch.zeros_like(scores[1])
        return sum(map(nn.functional.binary_cross_entropy, scores, wanted), torch.zeros(())) / 2

    def _generator_loss(self, fake: Tensor) -> Tensor:
        score = self.critic(fake)
        return nn.functional.binary_cross_entropy(score, torch.ones_like(score))

    def draws(self) -> Mapping[str, Draw]:
        return {"generator": lambda n: self.generator(torch.randn(n, LATENT, device=self.device))}
