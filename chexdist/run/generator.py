"""A trained generator as Python code calls it: what it knows of its classes, and which input it refuses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chexdist.errors import UserError
from chexdist.run.sampling import sampled_labels


class TrainedGenerator(nn.Module):
    """The averaged generator of a run, prepared, in evaluation mode.

    Called with latents [N, latent] from N(0, 1), and labels if it has classes -> images [N, 1, size, size] in
    [-1, 1], -1 black. Labels are numbers (int64 [N], in the order of `classes`), a list of numbers or names,
    or one of them for all images. Without labels, image i is of the class that `chexdist generate --seed 0`
    gives picture i: the classes then have the proportions of the training split. A generator without classes
    ignores labels.

    Raises UserError for latents of another shape and for a class that it does not have."""

    classes: tuple[str, ...]
    """The names of the classes in label order; empty for a generator without classes."""
    latent: int
    """The size of a latent."""
    size: int
    """The side of an image in pixels."""

    def __init__(self, network: nn.Module, class_counts: dict[str, int], latent: int, size: int) -> None:
        """`class_counts` are the training images by class; empty for a network without classes."""
        super().__init__()
        # the network's own tables, so that weights have the names here that they have in a checkpoint
        self._modules, self._parameters, self._buffers = (
            network._modules,
            network._parameters,
            network._buffers,
        )
        self._non_persistent_buffers_set = network._non_persistent_buffers_set
        object.__setattr__(self, "_network", network)
        self.classes, self._counts = tuple(class_counts), tuple(class_counts.values())
        self.latent, self.size = latent, size
        self.eval()

    def forward(
        self, latents: Tensor, labels: Tensor | Sequence[int | str] | int | str | None = None
    ) -> Tensor:
        if latents.ndim != 2 or latents.shape[1] != self.latent or not latents.is_floating_point():
            raise UserError(
                f"latents are {latents.dtype} of shape {list(latents.shape)}: this generator takes floats "
                f"[N, {self.latent}], such as torch.randn(16, {self.latent})"
            )
        network: nn.Module = self.__dict__["_network"]
        return network(latents, self._numbers(labels, len(latents)).to(latents.device))

    def _numbers(self, labels: Tensor | Sequence[int | str] | int | str | None, n: int) -> Tensor:
        """Labels as int64 [n]."""
        if not self.classes:
            return torch.zeros(n, dtype=torch.int64)
        if labels is None:
            return sampled_labels(0, range(n), self._counts)
        if isinstance(labels, int | str):
            labels = [labels] * n
        if not isinstance(labels, Tensor):
            labels = torch.tensor([self._number(label) for label in labels], dtype=torch.int64)
        if labels.shape != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise UserError(
                f"labels are {labels.dtype} of shape {list(labels.shape)}: {n} latents take {n} whole "
                "numbers, or one name for all"
            )
        wrong = labels[(labels < 0) | (labels >= len(self.classes))]
        if len(wrong):
            raise UserError(self._unknown(int(wrong[0])))
        return labels.to(torch.int64)

    def _number(self, label: int | str) -> int:
        if isinstance(label, str):
            if label not in self.classes:
                raise UserError(self._unknown(label))
            return self.classes.index(label)
        return int(label)

    def _unknown(self, label: int | str) -> str:
        known = ", ".join(f"{number} {name}" for number, name in enumerate(self.classes))
        return f"label {label}: this generator has no such class; there are {known}"
