"""The training step, the only one: the critic's and the generator's, each under its objective.

Notation: C critic, G generator, x real image, z latent, y label, T augmentation, B global batch, W world size. Every loss is a sum
over this rank's images, scaled by W / B; DDP takes the mean over ranks, so gradients are those of the mean over the global
batch, however uneven the shares.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.distributed.partition import micro_batches, share
from chexdist.distributed.world import World
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import GRADIENT_CLIPS, WEIGHT_CLIPS
from chexdist.gan.losses import LOSSES
from chexdist.gan.penalties import PENALTIES
from chexdist.training.networks import Gan, waits_for_peers
from chexdist.training.schedule import phases


@dataclass
class Losses:
    """Sums over this rank's images since the last reset, on the device, and whether any update was not finite."""

    critic: Tensor
    penalty: Tensor
    generator: Tensor
    not_finite: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> "Losses":
        return cls(*(torch.zeros((), dtype=torch.float64, device=device) for _ in range(4)))

    @classmethod
    def of(cls, ranks: list[list[float]], world: World, device: torch.device) -> "Losses":
        """This rank's part of what the ranks had summed up, [W, 3]; in another world, rank 0 takes all of it."""
        if len(ranks) == world.size:
            mine = ranks[world.rank]
        else:
            mine = [sum(sums) if world.is_main else 0.0 for sums in zip(*ranks, strict=True)] or [0.0] * 3
        return cls(*(torch.tensor(value, dtype=torch.float64, device=device) for value in (*mine, 0.0)))


class Step:
    """One batch of training on this rank's share of it."""

    def __init__(self, gan: Gan, world: World) -> None:
        config = gan.config
        self.gan, self.world, self.seed = gan, world, config.train.seed
        self.share = share(config.train.batch, config.train.group, world.size, world.rank)
        self.parts = micro_batches(self.share, config.train.group, config.train.accumulate)
        self.scale = world.size / config.train.batch
        self.loss = LOSSES[config.loss.name]
        self.penalty = PENALTIES[config.penalty.name]
        self.augment = AUGMENTS[config.augment.name]
        self.losses = Losses.zero(gan.device)
        self.dtype = torch.get_default_dtype()
        self.schedule = phases(config)

    def __call__(self, t: int, images: Tensor, labels: Tensor) -> None:
        """Train on global batch t: the critic, then whatever the schedule has due.

        Args:
            t: number of the global batch.
            images: this rank's share, [n, 1, S, S] in [-1, 1].
            labels: their classes, [n].
        """
        batch = self.gan.config.train.batch
        due = {phase.name: phase.gain for phase in self.schedule if phase.due(t * batch, (t + 1) * batch)}
        self.critic_gradients(t, images, labels, due.get("penalty", 0.0))
        self.update_critic()
        if "generator" in due:
            self.generator_gradients(t)
            self.update_generator()

    def warm_up(self) -> None:
        """One backward pass per network, thrown away. Every start does it, before any state is loaded.

        DDP lays out its buckets anew after the first backward pass, so a fresh process adds its first gradients in another order
        than one that goes on; bitwise restart needs the two to agree.
        """
        size = self.gan.config.model.size
        images = torch.zeros(len(self.share), 1, size, size, dtype=self.dtype, device=self.gan.device)
        self.critic_gradients(
            0, images, torch.zeros(len(self.share), dtype=torch.int64, device=self.gan.device)
        )
        self.generator_gradients(0)
        self.gan.critic.zero_grad()
        self.gan.generator.zero_grad()
        self.losses = Losses.zero(self.gan.device)

    def critic_gradients(self, t: int, images: Tensor, labels: Tensor, penalty_gain: float = 0.0) -> None:
        """min over C of  1/B sum_i  loss(C(T x_i, y_i), C(T G(z_i, y_i), y_i)) + gain * weight * penalty_i

        `penalty_gain` is the number of batches that this evaluation of the penalty stands for; 0 leaves it out.
        """
        gan, critic = self.gan, self.gan.reduced_critic
        for part in self.parts:
            rows = slice(part.start - self.share.start, part.stop - self.share.start)
            real, label = self.augmented(images[rows], Draw.AUGMENT_REAL, t, part), labels[rows]
            with torch.no_grad(), self.precision():
                fake = gan.generator(self.normal(Draw.CRITIC_LATENT, t, part), label).to(self.dtype)
            fake = self.augmented(fake, Draw.AUGMENT_FAKE, t, part)
            with self.reducing(critic, part is self.parts[-1]):
                with self.precision():
                    scores = critic(torch.cat([real, fake]), torch.cat([label, label])).to(self.dtype)
                losses = self.loss.critic(*scores.chunk(2))
                total = losses.sum()
                self.losses.critic += losses.detach().sum()
                if penalty_gain and self.penalty is not None:
                    weights = self.uniform(Draw.INTERPOLATION, t, part, 1)[:, 0]
                    with self.precision():
                        penalties = self.penalty(gan.critic, real, fake, label, weights)
                    total = total + penalty_gain * gan.config.penalty.weight * penalties.sum()
                    self.losses.penalty += penalty_gain * penalties.detach().sum()
                (total * self.scale).backward()

    def generator_gradients(self, t: int) -> None:
        """min over G of  1/B sum_i  loss(C(T G(z_i, y_i), y_i)),  with C fixed"""
        gan = self.gan
        gan.critic.requires_grad_(False)
        for part in self.parts:
            label = self.labels(Draw.GENERATOR_LABEL, t, part)
            with self.reducing(gan.reduced_generator, part is self.parts[-1]), self.precision():
                fake = gan.reduced_generator(self.normal(Draw.GENERATOR_LATENT, t, part), label).to(
                    self.dtype
                )
                scores = gan.critic(self.augmented(fake, Draw.AUGMENT_GENERATED, t, part), label).to(
                    self.dtype
                )
                losses = self.loss.generator(scores)
                self.losses.generator += losses.detach().sum()
                (losses.sum() * self.scale).backward()
        gan.critic.requires_grad_(True)

    def update_critic(self) -> None:
        """Adam's step on the reduced gradients, then the weight clip."""
        self.update(self.gan.critic, self.gan.critic_optimizer)
        clip = self.gan.config.clip
        if clip.name in WEIGHT_CLIPS:
            WEIGHT_CLIPS[clip.name](self.gan.critic.parameters(), clip.value)

    def update_generator(self) -> None:
        """Adam's step on the reduced gradients, then the moving average: ema = keep * ema + (1 - keep) * G."""
        self.update(self.gan.generator, self.gan.generator_optimizer)
        with torch.no_grad():
            for average, weight in zip(
                self.gan.ema.parameters(), self.gan.generator.parameters(), strict=True
            ):
                average.lerp_(weight, 1 - self.gan.ema_keep)

    def update(self, network: nn.Module, optimizer: torch.optim.Adam) -> None:
        """Clip the reduced gradients and step. A gradient that is not finite leaves weights and moments as they were.

        The flag stays on the device (fused Adam reads it as `found_inf`), so the host does not wait for it.
        """
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        not_finite = (~torch.isfinite(norm)).to(torch.float32)
        clip = self.gan.config.clip
        if clip.name in GRADIENT_CLIPS:
            GRADIENT_CLIPS[clip.name](gradients, norm, clip.value)
        optimizer.grad_scale, optimizer.found_inf = None, not_finite  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad()
        self.losses.not_finite += not_finite

    def normal(self, draw: Draw, t: int, part: range) -> Tensor:
        """Latents [len(part), latent] of these global-batch indices."""
        return self.put(noise.normal(self.seed, draw, t, part, self.gan.config.model.latent))

    def uniform(self, draw: Draw, t: int, part: range, width: int) -> Tensor:
        """Uniform numbers [len(part), width] of these global-batch indices."""
        return self.put(noise.uniform(self.seed, draw, t, part, width))

    def labels(self, draw: Draw, t: int, part: range) -> Tensor:
        """Labels [len(part)] in the proportions of the training split."""
        drawn = torch.from_numpy(noise.labels(self.seed, draw, t, part, self.gan.class_counts))
        return drawn.to(self.gan.device, non_blocking=True)

    def put(self, drawn: np.ndarray) -> Tensor:
        """Drawn in float64, cast afterwards: a float32 run sees the rounded numbers of a float64 run."""
        return torch.from_numpy(drawn).to(self.dtype).to(self.gan.device, non_blocking=True)

    def augmented(self, images: Tensor, draw: Draw, t: int, part: range) -> Tensor:
        if self.augment is None:
            return images
        return self.augment.augment(images, self.uniform(draw, t, part, self.augment.DRAWS))

    def precision(self) -> AbstractContextManager[object]:
        """bf16 where it is safe, when asked for."""
        bf16 = self.gan.config.train.precision == "bf16"
        return torch.autocast(self.gan.device.type, torch.bfloat16, enabled=bf16)

    def reducing(self, network: nn.Module, last: bool) -> AbstractContextManager[object]:
        """Reduce gradients over the ranks in the last part only; before it, they add up locally."""
        return nullcontext() if last or not waits_for_peers(network) else network.no_sync()  # type: ignore[operator]
