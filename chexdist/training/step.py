"""The training step, the only one: the critic's and the generator's, each under its objective.

Notation: C critic, G generator, x real image, z latent, y label, T augmentation, B global batch, W world
size. Every loss is a sum over this rank's images, scaled by W / B; DDP takes the mean over ranks, so
gradients are those of the mean over the global batch, however uneven the shares."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from chexdist.distributed import noise
from chexdist.distributed.noise import Draw
from chexdist.distributed.partition import micro_batches, share
from chexdist.distributed.world import World
from chexdist.gan.augment import AUGMENTS
from chexdist.gan.clips import CLIPS, GradientClip, WeightClip
from chexdist.gan.losses import LOSSES
from chexdist.gan.penalties import PENALTIES
from chexdist.training.drawn_ahead import DrawnAhead
from chexdist.training.health import NAMES, HealthSums
from chexdist.training.networks import Gan, is_ddp
from chexdist.training.schedule import Values, phases


@dataclass
class Losses:
    """Sums over this rank's images since the last reset, on the device; how many updates were not finite;
    and what else the health of a training is judged by.
    """

    critic: Tensor
    penalty: Tensor
    generator: Tensor
    not_finite: Tensor
    health: HealthSums

    @classmethod
    def zero(cls, device: torch.device) -> "Losses":
        critic, penalty, generator, not_finite = torch.zeros(4, dtype=torch.float64, device=device)
        return cls(critic, penalty, generator, not_finite, HealthSums.zero(device))

    @classmethod
    def of(cls, ranks: list[list[float]], world: World, device: torch.device) -> "Losses":
        """This rank's part of what the ranks had summed up, [W, 3 + len(NAMES)], or [W, 3] in checkpoints of
        earlier releases; at another world size, rank 0 takes all of it.
        """
        width = 3 + len(NAMES)
        rows = [[*row, *[0.0] * (width - len(row))] for row in ranks]
        if len(rows) == world.size:
            mine = rows[world.rank]
        else:
            mine = [sum(sums) if world.is_main else 0.0 for sums in zip(*rows, strict=True)] or [0.0] * width
        values = torch.tensor(mine, dtype=torch.float64, device=device)
        critic, penalty, generator = values[:3]
        return cls(critic, penalty, generator, torch.zeros_like(critic), HealthSums(values[3:].clone()))


class Step:
    """One batch of training on this rank's share of it."""

    def __init__(self, gan: Gan, world: World, between_parts: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            between_parts: called within the critic's step, while nothing but `losses` has changed; if it
                raises, the batch is as if it had not begun.
        """
        config = gan.config
        self.between_parts = between_parts
        self.gan, self.world, self.seed = gan, world, config.train.seed
        self.share = share(config.train.batch, config.train.group, world.size, world.rank)
        self.parts = micro_batches(self.share, config.train.group, config.train.accumulate)
        self.scale = world.size / config.train.batch
        self.loss = LOSSES[config.loss.name]
        self.penalty = PENALTIES[config.penalty.name]
        self.clip = CLIPS[config.clip.name]
        self.augmentation = AUGMENTS[config.augment.name]
        self.losses = Losses.zero(gan.device)
        self.dtype = torch.get_default_dtype()
        self.drawn = DrawnAhead()
        self.schedule = phases(config)
        self.values = Values.at(config, 0)
        """The settings that may move, as they are for the batch that is trained."""

    def __call__(self, t: int, images: Tensor, labels: Tensor) -> None:
        """Train on global batch t: the critic, then whatever the schedule has due.

        Args:
            t: number of the global batch.
            images: this rank's share, [n, 1, S, S] in [-1, 1].
            labels: their classes, [n].
        """
        batch = self.gan.config.train.batch
        self.values = Values.at(self.gan.config, t * batch)
        due = {phase.name: phase.gain for phase in self.schedule if phase.due(t * batch, (t + 1) * batch)}
        self.critic_gradients(t, images, labels, due.get("penalty", 0.0))
        self.between_parts()
        self.update_critic()
        if "generator" in due:
            self.generator_gradients(t, images, labels)
            self.update_generator()

    def warm_up(self) -> None:
        """One backward pass per network, thrown away. Every start does it, before any state is loaded.

        DDP lays out its buckets anew after the first backward pass, so a fresh process adds its first
        gradients in another order than one that resumes; bitwise restart needs the two to agree."""
        n, size, device = len(self.share), self.gan.config.model.size, self.gan.device
        images = torch.zeros(n, 1, size, size, dtype=self.dtype, device=device)
        labels = torch.zeros(n, dtype=torch.int64, device=device)
        self.critic_gradients(0, images, labels)
        self.generator_gradients(0, images, labels)
        self.gan.critic.zero_grad()
        self.gan.generator.zero_grad()
        self.losses = Losses.zero(device)

    def critic_gradients(self, t: int, images: Tensor, labels: Tensor, penalty_gain: float = 0.0) -> None:
        """min over C of  1/B sum_i  loss(C(T x_i, y_i), C(T G(z_i, y_i), y_i)) + gain * weight * penalty_i

        `penalty_gain` is the number of batches that this computation of the penalty stands for; 0 leaves it
        out."""
        gan, critic = self.gan, self.gan.ddp_critic
        for part in self.parts:
            if part is not self.parts[0]:
                self.between_parts()
            rows = self.rows(part)
            label = labels[rows]
            with torch.no_grad(), self.precision():
                fake = gan.generator(self.normal(Draw.CRITIC_LATENT, t, part), label).to(self.dtype)
            pairs = torch.cat([images[rows], fake])
            pairs = self.augmented(pairs, t, part, Draw.AUGMENT_REAL, Draw.AUGMENT_FAKE)
            with self.all_reducing(critic, part is self.parts[-1]):
                with self.precision():
                    scores = critic(pairs, torch.cat([label, label])).to(self.dtype)
                self.losses.health.add_scores(scores)
                total = self.loss.critic(*scores.chunk(2)).sum()
                self.losses.critic += total.detach()
                if penalty_gain and self.penalty is not None:
                    weights = self.uniform(Draw.INTERPOLATION, t, part, 1)[:, 0]
                    real, fake = pairs.chunk(2)
                    with self.precision():
                        penalties = self.penalty.penalty(gan.critic, real, fake, label, weights).sum()
                    weighted = penalty_gain * self.values.penalty_weight * penalties
                    total = total + weighted
                    self.losses.penalty += penalty_gain * penalties.detach()
                    self.losses.health.add_penalty(weighted)
                (total * self.scale).backward()

    def generator_gradients(self, t: int, images: Tensor, labels: Tensor) -> None:
        """min over G of  1/B sum_i  loss(C(T G(z_i, y_i), y_i), C(T x_i, y_i)),  with C fixed

        Most losses have no second argument, and y_i is then drawn; where there is one, it is that of the real
        image x_i."""
        gan = self.gan
        gan.critic.requires_grad_(False)
        for part in self.parts:
            real = label = None
            if self.loss.GENERATOR_SEES_REAL:
                label = labels[self.rows(part)]
                real = self.real_scores(t, part, images[self.rows(part)], label)
            else:
                label = self.labels(Draw.GENERATOR_LABEL, t, part)
            latent = self.normal(Draw.GENERATOR_LATENT, t, part)
            with self.all_reducing(gan.ddp_generator, part is self.parts[-1]), self.precision():
                fake = gan.ddp_generator(latent, label).to(self.dtype)
                fake = self.augmented(fake, t, part, Draw.AUGMENT_GENERATED)
                total = self.loss.generator(gan.critic(fake, label).to(self.dtype), real).sum()
                self.losses.generator += total.detach()
                (total * self.scale).backward()
        gan.critic.requires_grad_(True)

    @torch.no_grad()
    def real_scores(self, t: int, part: range, images: Tensor, labels: Tensor) -> Tensor:
        """The fixed critic's scores [n] of a part's real images, for a generator's loss that sees them."""
        real = self.augmented(images, t, part, Draw.AUGMENT_REAL_FOR_GENERATOR)
        with self.precision():
            return self.gan.critic(real, labels).to(self.dtype)

    def update_critic(self) -> None:
        """Adam's step on the all-reduced gradients, then the weight clip."""
        self.update(self.gan.critic, self.gan.critic_optimizer, self.values.critic_lr)
        if isinstance(self.clip, WeightClip):
            self.clip.clip_weights(self.gan.critic.parameters(), self.gan.config.clip.value)

    def update_generator(self) -> None:
        """Adam's step on the all-reduced gradients, then the moving average: ema = decay * ema + (1 - decay)
        * G.
        """
        self.update(self.gan.generator, self.gan.generator_optimizer, self.values.generator_lr)
        averages, weights = list(self.gan.ema.parameters()), list(self.gan.generator.parameters())
        get_ema_multi_avg_fn(self.values.ema_decay)(averages, weights, None)

    def update(self, network: nn.Module, optimizer: torch.optim.Adam, lr: float) -> None:
        """Clip the all-reduced gradients and step. A gradient that is not finite leaves weights and moments
        as they were.

        The flag stays on the device (fused Adam reads it as `found_inf`), so the host does not wait for it.
        """
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.world.is_main:
            self.losses.health.add_norm("critic" if network is self.gan.critic else "generator", norm)
        # 0 times a number is 0, and NaN for infinity and NaN: two operators, where isfinite alone is four
        not_finite = (0 * norm).nan_to_num(nan=1.0).to(torch.float32)
        if isinstance(self.clip, GradientClip):
            self.clip.clip_gradients(gradients, norm, self.gan.config.clip.value)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.grad_scale, optimizer.found_inf = None, not_finite  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad()
        self.losses.not_finite += not_finite

    def rows(self, part: range) -> slice:
        """Where a part of the global batch is in this rank's share."""
        return slice(part.start - self.share.start, part.stop - self.share.start)

    def normal(self, draw: Draw, t: int, part: range) -> Tensor:
        """Latents [len(part), latent] of these global-batch indices."""
        return self.to_device(
            self.drawn(noise.normal, self.seed, draw, t, part, self.gan.config.model.latent)
        )

    def uniform(self, draw: Draw, t: int, part: range, width: int) -> Tensor:
        """Uniform numbers [len(part), width] of these global-batch indices."""
        return self.to_device(self.drawn(noise.uniform, self.seed, draw, t, part, width))

    def labels(self, draw: Draw, t: int, part: range) -> Tensor:
        """Labels [len(part)] in the proportions of the training split."""
        drawn = self.drawn(noise.labels, self.seed, draw, t, part, self.gan.class_counts)
        return self.moved(torch.from_numpy(drawn))

    def to_device(self, drawn: np.ndarray) -> Tensor:
        """Drawn in float64, cast afterwards: a float32 run sees the rounded numbers of a float64 run."""
        return self.moved(torch.from_numpy(drawn).to(self.dtype))

    def moved(self, drawn: Tensor) -> Tensor:
        """On the device; to a GPU from pinned memory, since the host may wait for the copy of any other."""
        kept = drawn.pin_memory() if self.gan.device.type == "cuda" else drawn
        return kept.to(self.gan.device, non_blocking=True)

    def augmented(self, images: Tensor, t: int, part: range, *draws: Draw) -> Tensor:
        """T of images [len(draws) * len(part), 1, S, S], a part for each draw: each image is augmented where
        a number of its own is below the probability.
        """
        if self.augmentation is None:
            return images
        count, always = self.augmentation.DRAWS, self.gan.config.augment.probability == 1.0
        parts = [self.uniform(draw, t, part, count + (not always)) for draw in draws]
        drawn = torch.cat(parts) if len(parts) > 1 else parts[0]
        if always:
            return self.augmentation.augment(images, drawn)
        changed = self.augmentation.augment(images, drawn[:, :count])
        chosen = drawn[:, count:, None, None] < self.values.augment_probability
        return torch.where(chosen, changed, images)

    def precision(self) -> AbstractContextManager[object]:
        """bf16 where it is safe, if the configuration says so."""
        if self.gan.config.train.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.gan.device.type, torch.bfloat16)

    def all_reducing(self, network: nn.Module, last: bool) -> AbstractContextManager[object]:
        """All-reduce gradients in the backward pass of the last part only; before it, they add up on each
        rank.
        """
        return nullcontext() if last or not is_ddp(network) else network.no_sync()  # type: ignore[operator]
