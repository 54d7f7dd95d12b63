"""How a class label enters a generator and a critic. With no classes, not at all."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LabelledLatent(nn.Module):
    """Latent [N, latent] -> [N, latent] or, with classes, [N, latent + classes]: the class as one-hot numbers
    beside it (Mirza 2014).

    Not an embedding as wide as the latent: two fixed vectors of that size drown the latent, and each class
    collapses to one image."""

    def __init__(self, latent: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.width = latent + classes

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        if not self.classes:
            return latent
        return torch.cat([latent, functional.one_hot(label, self.classes).to(latent)], dim=1)


class ProjectionHead(nn.Module):
    """Features [N, features] -> scores [N]: w.h + embedding(label).h (Miyato 2018, "cGANs with Projection
    Discriminator", eq. 3).

    No bias: a Wasserstein loss can't see it, and no penalty on the gradient by the image would give it a
    gradient."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(features, 1, bias=False)
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)

    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        score = self.score(features).squeeze(1)
        if self.embedding is None:
            return score
        return score + (self.embedding(label) * features).sum(1)
