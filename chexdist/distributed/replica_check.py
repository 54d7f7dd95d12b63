"""Decides whether all ranks still hold the same state; otherwise training would continue from what bad memory
or a bug changed.
"""

from collections import Counter

import torch
from torch import Tensor

from chexdist.distributed.collectives import Collectives
from chexdist.errors import AgreedError


def digests(tensors: list[Tensor]) -> Tensor:
    """Sum and sum of squares of each tensor's bits as integers, modulo 2^64: int64 [len(tensors), 2] on the
    CPU.

    Exact, and independent of the order of the sum, so that different machines agree too; one changed bit
    always shows."""
    words = [_words(tensor.detach()) for tensor in tensors]
    sums = [torch.stack([word.sum(dtype=torch.int64), word.long().square().sum()]) for word in words]
    return torch.stack([each.to(sums[0].device) for each in sums]).cpu()


def check_replicas(tensors: dict[str, Tensor], collectives: Collectives, images: int) -> None:
    """Compare what the ranks would save after so many images, by name.

    Raises:
        AgreedError: on all ranks, naming the first tensor that differs, and the ranks whose value is not that
            of most.
    """
    if collectives.world.size == 1:
        return
    ranks = collectives.all_gather(digests(list(tensors.values()))[None])
    differs = (ranks != ranks[0]).any(dim=2).any(dim=0)
    if not differs.any():
        return
    first = int(differs.nonzero()[0])
    held = [tuple(digest) for digest in ranks[:, first].tolist()]
    usual, _ = Counter(held).most_common(1)[0]
    odd = ", ".join(str(rank) for rank, digest in enumerate(held) if digest != usual)
    raise AgreedError(
        f"the ranks have drifted apart by image {images}: {list(tensors)[first]} of rank {odd} is not that "
        f"of the others ({int(differs.sum())} of {len(tensors)} tensors differ); the last checkpoint is "
        "from before, and the same command resumes from it: if it happens again, suspect that rank's "
        "machine"
    )


def _words(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int64 if tensor.element_size() == 8 else torch.int32)
