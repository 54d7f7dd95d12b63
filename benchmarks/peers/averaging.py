"""What lightweight-gan and stylegan2-pytorch share: first weights, and when the generator is averaged."""

import torch
from torch import nn


def initialise(module: nn.Module) -> None:
    """Weights of plain convolutions and linear layers, as both packages draw them."""
    if type(module) in (nn.Conv2d, nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0, mode="fan_in", nonlinearity="leaky_relu")  # type: ignore[arg-type]


@torch.no_grad()
def average(averaged: nn.Module, current: nn.Module, steps: int, decay: float) -> None:
    """After the batch of number `steps`: a copy in the first 25,000 batches, once in a thousand; from 20,001
    on an average in every tenth.
    """
    if steps % 10 == 0 and steps > 20_000:
        for old, new in zip(averaged.parameters(), current.parameters(), strict=True):
            old.lerp_(new, 1 - decay)
        for kept, now in zip(averaged.buffers(), current.buffers(), strict=True):
            kept.copy_(kept * decay + now * (1 - decay))
    if steps <= 25_000 and steps % 1000 == 2:
        averaged.load_state_dict(current.state_dict())
