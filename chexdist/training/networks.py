"""What is trained: both networks, their optimizers and the averaged generator, built the same on every rank."""

import copy

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from chexdist.config.tree import Adam, Config
from chexdist.gan.models import build_critic, build_generator
from chexdist.gan.models.spec import Spec


def spec_of(config: Config, classes: int) -> Spec:
    """What the networks of a configuration are built from."""
    model = config.model
    return Spec(
        size=model.size,
        latent=model.latent,
        width=model.width,
        classes=classes if model.conditional else 0,
        norm=model.norm or "none",
        group=config.train.group,
    )


class Gan:
    """Networks, bare (`generator`, `critic`) and as DDP wraps them (`reduced_*`), optimizers, and the EMA generator.

    In a world of one `reduced_*` are the bare networks. Weights are drawn from `train.seed` alone.
    """

    def __init__(self, config: Config, class_counts: tuple[int, ...], accelerator: Accelerator) -> None:
        self.config = config
        self.class_counts = class_counts
        self.accelerator = accelerator
        self.device = accelerator.device
        spec = spec_of(config, len(class_counts))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            generator = build_generator(config.model.name, spec)
            critic = build_critic(config.model.name, spec)
        self.generator = self._place(generator)
        self.critic = self._place(critic)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.reduced_generator = accelerator.prepare_model(self.generator)
        self.reduced_critic = accelerator.prepare_model(self.critic)
        self.generator_optimizer = _adam(self.generator, config.optim.generator)
        self.critic_optimizer = _adam(self.critic, config.optim.critic)
        images = config.train.batch * config.train.n_critic
        self.ema_keep = 0.5 ** (images / config.ema.halflife)

    def weight_norm(self) -> Tensor:
        """The joint norm of all trained weights, on the device; not finite as soon as one of them is not."""
        weights = [*self.generator.parameters(), *self.critic.parameters()]
        return torch.nn.utils.get_total_norm(weights).detach()

    def _place(self, network: nn.Module) -> nn.Module:
        return network.train().to(self.device).to(memory_format=torch.channels_last)


def _adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    # fused: the only Adam whose update a flag on the device can mask (see step.update)
    return torch.optim.Adam(network.parameters(), lr=settings.lr, betas=settings.betas, fused=True)


def waits_for_peers(network: nn.Module) -> bool:
    """Whether a backward pass through this network is a collective."""
    return isinstance(network, DistributedDataParallel)
