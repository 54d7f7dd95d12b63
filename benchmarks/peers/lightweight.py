"""lightweight-gan's networks and losses (Liu 2021, "Towards Faster and Stabilized GAN Training").

The loop follows its Trainer with the defaults of its command line: gray images, hinge losses on two sizes,
a zero-centred penalty on real and generated images in every fourth batch, self-supervised reconstruction.
Batches are not accumulated. Its average of the weights begins after 20,000 batches; before, it is a copy of
the generator made after every thousandth.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.averaging import average, initialise
from benchmarks.peers.cudaless import import_anywhere
from benchmarks.peers.peer import Draw, Peer

RATE, BETAS, DECAY, PENALTY, PENALTY_EVERY = 2e-4, (0.5, 0.9), 0.995, 10.0, 4
LATENT, ATTENTION = 256, [32]
FULL, NARROW = 512, 64
"""Most channels, as published and on a CPU."""
NARROW_LATENT, NARROW_HEADS = 128, {"heads": 2, "dim_head": 16}
"""On a CPU; as published, attention has 8 heads of 64 channels at 32 px, most of the time at any width."""
TYPES = ["cutout", "translation"]


class LightweightGan(Peer):
    """Skip-layer excitation, pixel shuffling, batch norm in the generator."""

    def __init__(self, size: int, training_images: int, device: torch.device) -> None:
        super().__init__(size, training_images, device)
        module = import_anywhere("lightweight_gan.lightweight_gan")
        module.Blur = nn.Identity  # type: ignore[attr-defined]  # as its Trainer does without --antialias
        wide, self.latent = FULL, LATENT
        if device.type == "cpu":
            wide, self.latent = NARROW, NARROW_LATENT
            module.LinearAttention = partial(  # type: ignore[attr-defined]
                module.LinearAttention, **NARROW_HEADS
            )
            narrowed = f"channels {NARROW} of {FULL}, latent {NARROW_LATENT} of {LATENT}"
            self.width = f"{narrowed}, attention 2 x 16 of 8 x 64"
        shared: dict[str, Any] = {
            "image_size": size,
            "fmap_max": wide,
            "greyscale": True,
            "attn_res_layers": ATTENTION,
        }
        self.generator = module.Generator(latent_dim=self.latent, **shared)
        self.averaged = module.Generator(latent_dim=self.latent, **shared)
        self.critic = module.Discriminator(disc_output_size=1, **shared)
        self.networks = {"generator": self.generator, "averaged": self.averaged, "critic": self.critic}
        for name, network in self.networks.items():
            network.apply(initialise).to(device)
            if name != "averaged":
                self.optimizers[name] = torch.optim.Adam(network.parameters(), RATE, betas=BETAS)
        self.averaged.load_state_dict(self.generator.state_dict())
        self.averaged.requires_grad_(False)
        self.hinge, self.generator_hinge = module.hinge_loss, module.gen_hinge_loss
        probability = min(0.5, (1e5 - training_images) * 3e-6)  # its rule for few images
        self.scored = partial(module.AugWrapper(self.critic, size), prob=probability, types=TYPES)

    def train(self, batches: Iterable[Tensor]) -> None:
        for real in batches:
            self._critic_step(real.to(self.device))
            self._generator_step(len(real))
            average(self.averaged, self.generator, self.steps, DECAY)
            self.steps += 1

    def _critic_step(self, real: Tensor) -> None:
        penalised = self.steps % PENALTY_EVERY == 0
        self.optimizers["critic"].zero_grad()
        with torch.no_grad():
            fake = self.generator(self._latents(len(real)))
        real.requires_grad_(penalised)
        fake, fakes = self.scored(fake, detach=False, input_requires_grad=penalised, return_discr_input=True)
        reals = self.scored(real, calc_aux_loss=True)
        loss = self.hinge(reals[0], fakes[0]) + self.hinge(reals[1], fakes[1]) + reals[2]
        if penalised:
            slopes = torch.cat([_slopes(reals[:2], real), _slopes(fakes[:2], fake)])
            loss = loss + PENALTY * slopes.flatten(1).square().sum(1).mean()
        loss.backward()
        self.optimizers["critic"].step()

    def _generator_step(self, number: int) -> None:
        self.optimizers["generator"].zero_grad()
        fakes = self.scored(self.generator(self._latents(number)))
        (self.generator_hinge(fakes[0], None) + self.generator_hinge(fakes[1], None)).backward()
        self.optimizers["generator"].step()

    def _latents(self, number: int) -> Tensor:
        return torch.randn(number, self.latent, device=self.device)

    def draws(self) -> Mapping[str, Draw]:
        return {
            "generator": lambda n: self._draw(self.generator, n),
            "its average": lambda n: self._draw(self.averaged, n),
        }

    def _draw(self, network: nn.Module, number: int) -> Tensor:
        mode = network.training
        drawn: Tensor = network.eval()(self._latents(number))
        network.train(mode)
        return drawn


def _slopes(scores: tuple[Tensor, Tensor], images: Tensor) -> Tensor:
    """Of the sum of both scores by the images [N, 1, S, S]."""
    return torch.autograd.grad([each.sum() for each in scores], images, create_graph=True)[0]
