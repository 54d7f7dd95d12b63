"""The penalties on the critic's gradient, by name. A new one is a file with one function, a line here and its name in `config.tree`.

A penalty maps (critic, real [N, 1, H, W], fake [N, 1, H, W], label [N], weights [N] uniform in [0, 1)) to a penalty for each image [N],
still to be multiplied by `penalty.weight`. It is differentiable by the critic's parameters.
"""

from collections.abc import Callable

from torch import Tensor

from chexdist.gan.penalties import gradient_penalty, r1

Penalty = Callable[..., Tensor]

PENALTIES: dict[str, Penalty | None] = {
    "gp": gradient_penalty.penalty,
    "r1": r1.penalty,
    "none": None,
}
