"""stylegan2-pytorch's networks and losses (Karras 2020, "Analyzing and Improving the Image Quality").

The loop follows its Trainer with the defaults of its command line: hinge losses, a zero-centred penalty on
real and generated images in every fourth batch, the path length penalty from 5,000 batches on, mixed styles;
images in three equal channels, since it has no gray ones. Batches are not accumulated; images are augmented
by its rule for small data, which is off by default. Its average of the weights begins after 20,000 batches;
before, it is a copy of the generator made after every thousandth. It draws without truncation.
"""

import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.averaging import average, initialise
from benchmarks.peers.cudaless import import_anywhere
from benchmarks.peers.peer import Draw, Peer

RATE, CRITIC_RATE, BETAS, DECAY, MIXED = 2e-4, 3e-4, (0.5, 0.9), 0.995, 0.9
PENALTY_EVERY, PATH_EVERY, PATH_FROM, PATH_DECAY = 4, 32, 5000, 0.99
LATENT, DEPTH, RATE_FACTOR = 512, 8, 0.1
FULL, NARROW = 16, 8
"""Its `network_capacity`, as published and on a CPU."""
TYPES = ["translation", "cutout"]


class StyleGan2(Peer):
    """Modulated convolutions, styles, noise; a residual critic."""

    def __init__(self, size: int, training_images: int, device: torch.device) -> None:
        super().__init__(size, training_images, device)
        module = import_anywhere("stylegan2_pytorch.stylegan2_pytorch", without="aim")
        capacity = NARROW if device.type == "cpu" else FULL
        if capacity != FULL:
            self.width = f"network_capacity {capacity} of {FULL}"
        self.critic = module.Discriminator(size, capacity)
        self.generator, self.averaged = (
            nn.ModuleDict(
                {
                    "styles": module.StyleVectorizer(LATENT, DEPTH, lr_mul=RATE_FACTOR),
                    "images": module.Generator(size, LATENT, capacity),
                }
            )
            for _ in range(2)
        )
        self.networks = {"generator": self.generator, "averaged": self.averaged, "critic": self.critic}
        for network in self.networks.values():
            network.apply(initialise).to(device)
        for block in self.generator["images"].blocks:  # type: ignore[union-attr]
            for layer in (block.to_noise1, block.to_noise2):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.averaged.load_state_dict(self.generator.state_dict())
        self.averaged.requires_grad_(False)
        for name, rate in (("generator", RATE), ("critic", CRITIC_RATE)):
            self.optimizers[name] = torch.optim.Adam(self.networks[name].parameters(), rate, betas=BETAS)
        self.module: Any = module
        self.layers = size.bit_length() - 2  # each with a style of its own
        probability = min(0.5, (1e5 - training_images) * 3e-6)
        self.scored = partial(module.AugWrapper(self.critic, size), prob=probability, types=TYPES)

    def train(self, batches: Iterable[Tensor]) -> None:
        for real in batches:
            mixed = random.random() < MIXED
            self._critic_step(real.to(self.device).repeat(1, 3, 1, 1), mixed)
            self._generator_step(len(real), mixed)
            average(self.averaged, self.generator, self.steps, DECAY)
            self.steps += 1

    def _images(self, network: nn.Module, number: int, mixed: bool) -> tuple[Tensor, Tensor]:
        """Styles [N, layers, LATENT] and images [N, 3, S, S]; `mixed`: of two latents each."""
        first = int(torch.rand(()).item() * self.layers) if mixed else self.layers
        latents = torch.randn(2 if mixed else 1, number, LATENT, device=self.device)
        styles = [network["styles"](latent) for latent in latents]  # type: ignore[index]
        counts = (first, self.layers - first)
        stacked = torch.cat(
            [each[:, None].expand(-1, count, -1) for each, count in zip(styles, counts, strict=False)], 1
        )
        noise = torch.rand(number, self.size, self.size, 1, device=self.device)
        return stacked, network["images"](stacked, noise)  # type: ignore[index]

    def _critic_step(self, real: Tensor, mixed: bool) -> None:
        penalised = self.steps % PENALTY_EVERY == 0
        self.optimizers["critic"].zero_grad()
        with torch.no_grad():
            _, fake = self._images(self.generator, len(real), mixed)
        fake, (fakes, _) = self.scored(
            fake, return_aug_images=True, input_requires_grad=penalised, detach=True
        )
        real.requires_grad_(penalised)
        reals, _ = self.scored(real)
        loss = self.module.hinge_loss(fakes, reals)
        if penalised:
            loss = (
                loss + self.module.gradient_penalty(real, reals) + self.module.gradient_penalty(fake, fakes)
            )
        loss.backward()
        self.optimizers["critic"].step()

    def _generator_step(self, number: int, mixed: bool) -> None:
        self.optimizers["generator"].zero_grad()
        styles, fake = self._images(self.generator, number, mixed)
        scores, _ = self.scored(fake)
        loss = self.module.gen_hinge_loss(scores, None)
        if self.steps > PATH_FROM and self.steps % PATH_EVERY == 0:
            lengths = self.module.calc_pl_lengths(styles, fake)
            mean = lengths.mean().item()
            if "path" in self.numbers:
                loss = loss + (lengths - self.numbers["path"]).square().mean()
            self.numbers["path"] = PATH_DECAY * self.numbers.get("path", mean) + (1 - PATH_DECAY) * mean
        loss.backward()
        self.optimizers["generator"].step()

    def draws(self) -> Mapping[str, Draw]:
        return {
            "generator": lambda n: self._draw(self.generator, n),
            "its average": lambda n: self._draw(self.averaged, n),
        }

    def _draw(self, network: nn.Module, number: int) -> Tensor:
        return self._images(network, number, False)[1].mean(1, keepdim=True)
