"""The other side of `step` and `quality`: four GANs as notebooks train them, habits and all; a residual one.

Written for this comparison after the habits of public chest X-ray GAN notebooks: float32 and contiguous
tensors, gray images as three equal channels, the networks in turn on real and on generated images, a critic
that gathers gradients in the generator's step, generated images that are not detached in the gradient
penalty, plain Adam, `.item()` in every batch. Layers of the convolutional ones and their widths are those of
`chexdist.gan.models`; only `channels` may differ.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def generator(widths: list[int], latent: int, channels: int) -> nn.Module:
    """Latent [N, latent, 1, 1] -> image [N, channels, S, S]; `widths` at the sides S/2, S/4, ..., 4."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[-1], 4, 1, 0, bias=False)]
    for wide, narrow in itertools.pairwise([*widths[::-1], channels]):
        layers += [nn.BatchNorm2d(wide), nn.ReLU(True)]
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh()).apply(_initialise)


def critic(widths: list[int], channels: int, batch_norm: bool) -> nn.Module:
    """Image [N, channels, S, S] -> score [N, 1]."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for narrow, wide in itertools.pairwise(widths):
        layers.append(nn.Conv2d(narrow, wide, 4, 2, 1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(wide)] if batch_norm else []
        layers.append(nn.LeakyReLU(0.2, True))
    layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Flatten()]
    return nn.Sequential(*layers).apply(_initialise)


def dense_generator(latent: int, channels: int, size: int) -> nn.Module:
    """Latent [N, latent, 1, 1] -> image [N, channels, size, size], by layers of 128 to 1,024 units."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(latent, 128), nn.LeakyReLU(0.2, True)]
    for narrow, wide in itertools.pairwise([128, 256, 512, 1024]):
        layers += [nn.Linear(narrow, wide), nn.BatchNorm1d(wide, 0.8), nn.LeakyReLU(0.2, True)]
    layers += [nn.Linear(1024, channels * size**2), nn.Tanh(), nn.Unflatten(1, (channels, size, size))]
    return nn.Sequential(*layers)


def dense_critic(channels: int, size: int) -> nn.Module:
    """Image [N, channels, size, size] -> score [N, 1]."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * size**2, 512), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Linear(512, 256), nn.LeakyReLU(0.2, True), nn.Linear(256, 1))


class Notebook:
    """Networks, optimizers and the sums of losses; a subclass is one training loop's body.

    `weight`: of its penalty, where it has one.
    """

    weight = 0.0

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        latent: int,
        device: torch.device,
        betas: tuple[float, float],
        n_critic: int,
    ) -> None:
        self.generator, self.critic = generator.to(device), critic.to(device)
        self.latent, self.device, self.n_critic = latent, device, n_critic
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=betas)
        self.optimizer_d = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=betas)
        self.loss_d = self.loss_g = 0.0

    def noise(self, images: Tensor) -> Tensor:
        return torch.randn(images.size(0), self.latent, 1, 1).to(self.device)

    def batch(self, i: int, real: Tensor) -> None:
        """Train on the i-th batch [N, channels, S, S] in [-1, 1]."""
        raise NotImplementedError


class Dcgan(Notebook):
    """Binary cross-entropy on a sigmoid; the generator's step reuses the images that the critic has seen.

    With dense networks it is the vanilla GAN."""

    def batch(self, i: int, real: Tensor) -> None:
        bce = nn.BCELoss()
        valid = torch.ones(real.size(0), 1).to(self.device)
        invalid = torch.zeros(real.size(0), 1).to(self.device)

        self.optimizer_d.zero_grad()
        loss_real = bce(torch.sigmoid(self.critic(real)), valid)
        loss_real.backward()
        fake = self.generator(self.noise(real))
        loss_fake = bce(torch.sigmoid(self.critic(fake.detach())), invalid)
        loss_fake.backward()
        self.optimizer_d.step()

        self.optimizer_g.zero_grad()
        loss_g = bce(torch.sigmoid(self.critic(fake)), valid)
        loss_g.backward()
        self.optimizer_g.step()
        self.loss_d += loss_real.item() + loss_fake.item()
        self.loss_g += loss_g.item()


class WganGp(Notebook):
    """Wasserstein loss with a gradient penalty in every batch; the generator steps in every `n_critic`-th."""

    weight = 10.0

    def batch(self, i: int, real: Tensor) -> None:
        self.optimizer_d.zero_grad()
        z = self.noise(real)
        fake = self.generator(z)
        loss_d = self.critic(fake.detach()).mean() - self.critic(real).mean()
        loss_d = loss_d + self.weight * self.gradient_penalty(real, fake)
        loss_d.backward()
        self.optimizer_d.step()
        self.loss_d += loss_d.item()

        if (i + 1) % self.n_critic == 0:
            self.optimizer_g.zero_grad()
            loss_g = -self.critic(self.generator(z)).mean()
            loss_g.backward()
            self.optimizer_g.step()
            self.loss_g += loss_g.item()

    def gradient_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        alpha = torch.rand(real.size(0), 1, 1, 1).to(self.device)
        between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        scores = self.critic(between)
        (slope,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
        return ((slope.view(slope.size(0), -1).norm(2, dim=1) - 1) ** 2).mean()


class WganClip(Notebook):
    """Wasserstein loss, the critic's weights clipped, RMSprop: Arjovsky 2017, algorithm 1, its rates."""

    clip, lr = 0.01, 5e-5

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rmsprop_g = torch.optim.RMSprop(self.generator.parameters(), lr=self.lr)
        self.rmsprop_d = torch.optim.RMSprop(self.critic.parameters(), lr=self.lr)

    def batch(self, i: int, real: Tensor) -> None:
        self.rmsprop_d.zero_grad()
        z = self.noise(real)
        loss_d = self.critic(self.generator(z).detach()).mean() - self.critic(real).mean()
        loss_d.backward()
        self.rmsprop_d.step()
        for parameter in self.critic.parameters():
            parameter.data.clamp_(-self.clip, self.clip)
        self.loss_d += loss_d.item()

        if (i + 1) % self.n_critic == 0:
            self.rmsprop_g.zero_grad()
            loss_g = -self.critic(self.generator(z)).mean()
            loss_g.backward()
            self.rmsprop_g.step()
            self.loss_g += loss_g.item()


class Residual(Notebook):
    """Relativistic pairs with R1 and R2 in every batch, as Huang 2024 trains; without them for weight 0.

    No notebook has this GAN: it is the plain loop over the networks of `chexdist.gan.models.residual`.
    """

    weight = 0.1

    def noise(self, images: Tensor) -> Tensor:
        return torch.randn(images.size(0), self.latent).to(self.device)

    def batch(self, i: int, real: Tensor) -> None:
        label = torch.zeros(real.size(0), dtype=torch.int64).to(self.device)
        z = self.noise(real)

        self.optimizer_d.zero_grad()
        seen, drawn = real.detach().requires_grad_(), self.generator(z, label).detach().requires_grad_()
        score_real, score_fake = self.critic(seen, label), self.critic(drawn, label)
        loss_d = nn.functional.softplus(score_fake - score_real).mean()
        if self.weight:
            loss_d = loss_d + self.weight / 2 * (
                self._slope(score_real, seen) + self._slope(score_fake, drawn)
            )
        loss_d.backward()
        self.optimizer_d.step()
        self.loss_d += loss_d.item()

        self.optimizer_g.zero_grad()
        fake = self.critic(self.generator(z, label), label)
        loss_g = nn.functional.softplus(self.critic(real, label) - fake).mean()
        loss_g.backward()
        self.optimizer_g.step()
        self.loss_g += loss_g.item()

    def _slope(self, scores: Tensor, images: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
        return slope.square().sum(dim=(1, 2, 3)).mean()
