"""The production step on a rank that trains by itself, to be timed or measured: on any device, torch's meta
device too, where tensors have shapes and no content.
"""

from typing import TYPE_CHECKING, Any, cast

from chexdist.config.tree import Config
from chexdist.distributed.world import World

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from chexdist.training.step import Step


class _Alone:
    """What `Gan` asks of Accelerate, for networks that no other rank trains along with."""

    def __init__(self, device: "torch.device") -> None:
        self.device = device

    def prepare_model(self, network: Any) -> Any:
        return network


def step_alone(config: Config, classes: int, images: int, device: "torch.device") -> "Step":
    """With fresh networks, for batches of `images` images in one part, whatever the configuration says."""
    import torch

    from chexdist.training.networks import Gan
    from chexdist.training.step import Step

    train = config.train.model_copy(update={"batch": images, "accumulate": 1})
    alone = cast("Accelerator", _Alone(device))
    with torch.device(device):
        gan = Gan(config.model_copy(update={"train": train}), (1,) * classes, alone)
    return Step(gan, World.detect({}))
