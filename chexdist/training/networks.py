"""What is trained: both networks, their optimizers and the averaged generator, built the same on every rank.

Where ranks are more than one, this is where DDP is constructed, which compares shapes and broadcasts rank 0's
weights."""

import copy

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from chexdist.config.spec import spec_of
from chexdist.config.tree import Adam, Config
from chexdist.gan.models import FAMILIES
from chexdist.run import layout


class Gan:
    """Networks, bare (`generator`, `critic`) and as DDP wraps them (`ddp_*`), optimizers, and the EMA
    generator.

    With one rank, `ddp_*` are the bare networks. Weights are drawn from `train.seed` alone.
    """

    def __init__(self, config: Config, class_counts: tuple[int, ...], accelerator: Accelerator) -> None:
        self.config = config
        self.class_counts = class_counts
        self.accelerator = accelerator
        self.device = accelerator.device
        spec, family = spec_of(config, len(class_counts)), FAMILIES[config.model.name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            generator, critic = family.Generator(spec), family.Critic(spec)
        self.generator = self._on_device(generator)
        self.critic = self._on_device(critic)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.ddp_generator = accelerator.prepare_model(self.generator)
        self.ddp_critic = accelerator.prepare_model(self.critic)
        self.generator_optimizer = _adam(self.generator, config.optim.generator)
        self.critic_optimizer = _adam(self.critic, config.optim.critic)

    def weight_norm(self) -> Tensor:
        """The joint norm of all trained weights, on the device; not finite as soon as one of them is not."""
        weights = [*self.generator.parameters(), *self.critic.parameters()]
        return torch.nn.utils.get_total_norm(weights).detach()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Every tensor that a checkpoint holds, by file and name; the tensors themselves, no copies."""
        return {
            layout.GENERATOR: dict(self.generator.named_parameters()),
            layout.CRITIC: dict(self.critic.named_parameters()),
            layout.EMA: dict(self.ema.named_parameters()),
            layout.GENERATOR_OPTIMIZER: _moments(self.generator, self.generator_optimizer),
            layout.CRITIC_OPTIMIZER: _moments(self.critic, self.critic_optimizer),
        }

    def _on_device(self, network: nn.Module) -> nn.Module:
        return network.train().to(self.device).to(memory_format=torch.channels_last)


def is_ddp(network: nn.Module) -> bool:
    """Whether a backward pass through this network is an all-reduce."""
    return isinstance(network, DistributedDataParallel)


def _adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    # fused: the only Adam whose update a flag on the device can mask (see Step.update)
    # its learning rate is set with each step
    return torch.optim.Adam(network.parameters(), betas=settings.betas, fused=True)


def _moments(network: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Adam's moments and step counts, made as Adam makes them where it has not stepped yet."""
    found: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        found |= {f"{name}.{key}": value for key, value in state.items()}
    return found
