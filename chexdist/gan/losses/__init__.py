"""The adversarial losses by name. A new one is a file with two functions, a line here and its name in `config.tree`.

`critic(real, fake)` maps the critic's scores [N], [N] to losses [N] and `generator(fake)` maps scores [N] to losses [N]: one loss
for each image, never a mean, so that the sum over any ranks is exact.
"""

from types import ModuleType

from chexdist.gan.losses import hinge, non_saturating, wasserstein

LOSSES: dict[str, ModuleType] = {
    "non-saturating": non_saturating,
    "wasserstein": wasserstein,
    "hinge": hinge,
}
