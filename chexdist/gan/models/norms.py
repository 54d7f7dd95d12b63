"""Normalisation that doesn't depend on how many ranks or micro-batches there are."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class GhostBatchNorm(nn.Module):
    """Batch norm (Ioffe 2015) over fixed groups of consecutive images (Hoffer 2017, "Train longer, generalize
    better", sec. 4).

    In training mode [N, C, H, W] (N a multiple of `group`) is normalised group by group and nothing is
    remembered, so that there is nothing to communicate and nothing to race. `calibrate` sets the statistics
    of evaluation mode, where each image is computed by itself."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, group: int) -> None:
        super().__init__()
        self.group = group
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        nn.init.normal_(self.weight, 1.0, 0.02)  # Radford 2016 and the code published with it
        nn.init.zeros_(self.bias)
        self.register_buffer("mean", torch.zeros(channels), persistent=False)
        self.register_buffer("variance", torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias)
        if len(x) == self.group:
            return functional.batch_norm(x, None, None, self.weight, self.bias, training=True)
        # all groups at once, as [group * H * W, groups * C]: as many operators however many groups
        count, channels, height, width = x.shape
        groups = count // self.group
        rows = x.unflatten(0, (groups, -1)).permute(1, 3, 4, 0, 2).reshape(-1, groups * channels)
        weight, bias = self.weight.repeat(groups), self.bias.repeat(groups)
        rows = functional.batch_norm(rows, None, None, weight, bias, training=True)
        back = rows.unflatten(1, (groups, channels)).transpose(0, 1)
        return back.reshape(count, height, width, channels).permute(0, 3, 1, 2)


@torch.no_grad()
def calibrate(network: nn.Module, forward: Callable[[], object]) -> None:
    """Set the evaluation statistics of every ghost batch norm from one training-mode pass of `forward()`.

    Mean and variance over all images of that pass ("precise batch norm", Wu and Johnson 2021, "Rethinking
    'Batch' in BatchNorm", sec. 3.1), from the activations that training mode gives. Leaves the network in
    evaluation mode."""

    def remember(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(layer, GhostBatchNorm)
        variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
        layer.mean.copy_(mean)
        layer.variance.copy_(variance)

    layers = [module for module in network.modules() if isinstance(module, GhostBatchNorm)]
    handles = [layer.register_forward_pre_hook(remember) for layer in layers]
    network.train()
    if layers:
        forward()
    for handle in handles:
        handle.remove()
    network.eval()


def critic_norm(name: str, channels: int, group: int) -> nn.Module:
    """The critic's normalisation of [N, channels, H, W] by name."""
    if name == "batch":
        return GhostBatchNorm(channels, group)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "group":
        return nn.GroupNorm(num_groups=min(8, channels), num_channels=channels)
    return nn.Identity()
