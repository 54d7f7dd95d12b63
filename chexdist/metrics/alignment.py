"""How one picture is laid over another: mirrored, turned, scaled and shifted until their details agree best.

Coarse to fine. `Gallery.nearest` correlates a thumbnail of an image, under a grid of transformations and
all shifts, with every picture of a gallery, and names the likeliest. `aligned` then improves angle, scale and
shift of such a pair by least squares (Lucas & Kanade 1981, with a gain and an offset of brightness, so that
an inverted copy is found as well).

Coordinates are those of `torch.nn.functional.grid_sample`: -1 to 1 from edge to edge, x to the right. A
similarity [.., 4] of (a, b, x, y) leads the point u of a gallery's picture to (a + bi) u + x + yi in the
image, points read as complex numbers; the image is mirrored beforehand where its copy was.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from chexdist.metrics.preprocess import levels, resize

SIDE = 64
"""Pictures are compared at SIDE x SIDE pixels."""
TURNS = (-8.0, -2.7, 2.7, 8.0)  # degrees; with SCALES what is tried first, so that aligned() finds the rest
SCALES = (0.88, 0.955, 1.04, 1.13)
THUMBNAIL = 24
THUMBNAIL_SHIFT = 4  # a sixth, since the outermost pixels of a thumbnail are of little worth
THUMBNAIL_BAND = (0.5, 1.0)
WINDOW = THUMBNAIL - 2 * THUMBNAIL_SHIFT
DIRECTIONS = 64
PICTURES_AT_ONCE, PRINTS_AT_ONCE = 1024, 256
MARGIN = 3 / SIDE  # of a picture's side: what a copy's resampling may have mixed with what is around it
FLAT = 0.1  # the norm of a window's details, in levels, below which there is nothing but rounding


@dataclass(frozen=True)
class Nearest:
    """The likeliest pictures of a gallery for N images, K for each: index, whether mirrored, similarity."""

    index: Tensor  # int64 [N, K]
    mirrored: Tensor  # bool [N, K]
    similarity: Tensor  # float32 [N, K, 4]


class Gallery:
    """Pictures that images are searched for in: 4.3 kB of memory each."""

    def __init__(self, pictures: Tensor) -> None:
        """`pictures` [M, 1, SIDE, SIDE], levels 0 to 255 of any dtype, as `small` gives them."""
        self.pictures = pictures.to(torch.uint8)
        prints = torch.cat([_prints(part) for part in self.pictures.split(PICTURES_AT_ONCE)])
        # the directions in which the prints differ most: fewer multiplications, and less noise
        self._basis = torch.linalg.eigh(prints.T @ prints).eigenvectors[:, -DIRECTIONS:]
        self._prints = functional.normalize(prints @ self._basis, eps=FLAT).T.contiguous()

    def __len__(self) -> int:
        return len(self.pictures)

    def nearest(self, images: Tensor, k: int, excluded: Tensor | None = None) -> Nearest:
        """The k likeliest pictures for each image [N, 1, SIDE, SIDE]; pairs `excluded` [N, M] come last.

        An image costs 2,592 x 64 x (256 + M) multiplications: 32 views, 81 shifts, 64 directions.
        """
        k = min(k, len(self))
        found = [
            self._likeliest(each, k, None if excluded is None else excluded[i])
            for i, each in enumerate(_thumbnails(images))
        ]
        index, view, shift = (torch.stack(part) for part in zip(*found, strict=True))
        mirrored, grid = _views()
        to = (shift - THUMBNAIL_SHIFT) * 2 / THUMBNAIL  # of the window in the view
        return Nearest(index, mirrored[view], _compose(grid[view], to[..., 1], to[..., 0]))

    def _likeliest(self, thumbnail: Tensor, k: int, excluded: Tensor | None) -> tuple[Tensor, ...]:
        """For one thumbnail [1, T, T]: index [k], number of the view [k], row and column of shift [k, 2]."""
        mirrored, grid = _views()
        both = torch.stack([thumbnail, thumbnail.flip(2)])[mirrored.long()]
        views = warped(both, grid, "bilinear")[:, 0]
        windows = views.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1).reshape(-1, WINDOW**2) @ self._basis
        windows /= windows.norm(dim=1, keepdim=True).clamp_min(FLAT)
        best = torch.cat([_best(windows @ part) for part in self._prints.split(PRINTS_AT_ONCE, dim=1)])
        if excluded is not None:
            best.masked_fill_(excluded, -1.0)
        index = best.topk(k).indices
        where = (windows @ self._prints[:, index]).abs().argmax(0)
        shifts = 2 * THUMBNAIL_SHIFT + 1
        view, shift = where // shifts**2, where % shifts**2
        return index, view, torch.stack([shift // shifts, shift % shifts], dim=1)


def small(images: Tensor) -> Tensor:
    """Images [N, 1, S, S] in [-1, 1] at SIDE: whole numbers 0 to 255, float32 [N, 1, SIDE, SIDE].

    Raises ValueError as `levels` does.
    """
    return resize(levels(images), SIDE).round()


def aligned(images: Tensor, pictures: Tensor, similarity: Tensor, low: float, high: float, n: int) -> Tensor:
    """Similarities [B, 4] after n steps from those given, for pairs of [B, 1, S, S] of any one S.

    What is compared is the detail between two Gaussian blurs of `low` and `high` pixels (`detail`).
    """
    side = images.shape[-1]
    rows, columns = _coordinates(side)
    mask = overlap(similarity, side)
    goal = detail(pictures, mask, low, high).flatten(2)
    for _ in range(n):
        moved = detail(warped(images, similarity, "bilinear"), mask, low, high)
        right, down = (_slope(moved, axis) * side / 2 for axis in (3, 2))
        growth, turn = right * columns + down * rows, down * columns - right * rows
        terms = torch.cat([moved, mask, growth, turn, right, down], dim=1).flatten(2)
        weighted = terms * mask.flatten(2)
        normal, against = weighted @ terms.transpose(1, 2), weighted @ goal.transpose(1, 2)
        damping = normal.diagonal(dim1=1, dim2=2) * 1e-3 + 1e-6
        solution = torch.linalg.solve(normal + torch.diag_embed(damping), against)[..., 0]
        gain = solution[:, :1]
        gain = torch.where(gain < 0, gain.clamp_max(-0.1), gain.clamp_min(0.1))
        step = (solution[:, 2:] / gain).clamp(-0.06, 0.06)
        similarity = _compose(similarity, step[:, 2], step[:, 3], 1 + step[:, 0], step[:, 1])
    return similarity


def warped(images: Tensor, similarity: Tensor, mode: str) -> Tensor:
    """What a gallery's picture would see of images [B, 1, S, S] under similarities [B, 4]."""
    return functional.grid_sample(
        images, _points(similarity, images.shape[-1]), mode=mode, padding_mode="border", align_corners=False
    )


def overlap(similarity: Tensor, side: int) -> Tensor:
    """1 where a point of the gallery's picture lies within both pictures, and MARGIN inside; [B, 1, S, S]."""
    rows, columns = _coordinates(side)
    own = torch.maximum(rows.abs(), columns.abs()) < 1 - 2 * MARGIN
    inside = (_points(similarity, side).abs() < 1 - 2 * MARGIN).all(dim=3)
    return (own & inside).float()[:, None]


def detail(images: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """Images blurred by `low` pixels less the same by `high`, where the mask is 1, and 0 elsewhere.

    Nothing outside the mask has any weight: so a black border around a copy doesn't leak into it.
    """
    narrow, wide = (
        _blurred(images * mask, sigma) / _blurred(mask, sigma).clamp_min(1e-6) for sigma in (low, high)
    )
    return torch.where(mask > 0, narrow - wide, 0.0)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """By `sigma` pixels, with nothing around the images."""
    blur = _blur(images.shape[-1], sigma)
    return blur @ images @ blur.T


@cache
def _blur(side: int, sigma: float) -> Tensor:
    """A Gaussian blur along one axis, [side, side]; rows far from the ends sum to 1."""
    offset = torch.arange(side)[:, None] - torch.arange(side)[None]
    return torch.exp(-0.5 * (offset / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


def _thumbnails(pictures: Tensor) -> Tensor:
    """The details of pictures [N, 1, SIDE, SIDE], levels 0 to 255, at THUMBNAIL pixels."""
    tiny = resize(pictures.float(), THUMBNAIL)
    return detail(tiny, torch.ones(1, 1, THUMBNAIL, THUMBNAIL), *THUMBNAIL_BAND)


def _prints(pictures: Tensor) -> Tensor:
    """The middle of each thumbnail, of mean 0 and norm 1, or 0 if it is flat: a row each."""
    edge = slice(THUMBNAIL_SHIFT, THUMBNAIL_SHIFT + WINDOW)
    middle = _thumbnails(pictures)[:, 0, edge, edge].flatten(1)
    middle = middle - middle.mean(dim=1, keepdim=True)
    return middle / middle.norm(dim=1, keepdim=True).clamp_min(FLAT)


def _best(likeness: Tensor) -> Tensor:
    """The largest of each column, without sign."""
    return torch.maximum(likeness.amax(0), -likeness.amin(0))


@cache
def _views() -> tuple[Tensor, Tensor]:
    """The transformations under which a thumbnail is tried: mirrored bool [V], similarity [V, 4]."""
    tried = [(mirror, turn, scale) for mirror in (False, True) for turn in TURNS for scale in SCALES]
    angle = torch.tensor([math.radians(turn) for _, turn, _ in tried])
    scale = torch.tensor([scale for _, _, scale in tried])
    still = torch.zeros(len(tried))
    similarity = torch.stack([scale * angle.cos(), scale * angle.sin(), still, still], dim=1)
    return torch.tensor([mirror for mirror, _, _ in tried]), similarity


def _points(similarity: Tensor, side: int) -> Tensor:
    """Where the points of a gallery's picture lie in an image: [B, side, side, 2], x first."""
    rows, columns = _coordinates(side)
    a, b, x, y = (part[:, None, None] for part in similarity.unbind(1))
    return torch.stack([a * columns - b * rows + x, b * columns + a * rows + y], dim=3)


def _compose(
    similarity: Tensor, x: Tensor, y: Tensor, a: Tensor | float = 1.0, b: Tensor | float = 0.0
) -> Tensor:
    """The similarity after (a, b, x, y) has been applied: parts [...], similarities [..., 4]."""
    real, imaginary, right, down = similarity.unbind(-1)
    return torch.stack(
        [
            real * a - imaginary * b,
            real * b + imaginary * a,
            right + real * x - imaginary * y,
            down + imaginary * x + real * y,
        ],
        dim=-1,
    )


def _coordinates(side: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels' centres, -1 to 1: two [side, side]."""
    along = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return rows, columns


def _slope(images: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, by pixel; 0 at both ends."""
    inner = (
        images.narrow(axis, 2, images.shape[axis] - 2) - images.narrow(axis, 0, images.shape[axis] - 2)
    ) / 2
    pad = (1, 1, 0, 0) if axis == 3 else (0, 0, 1, 1)
    return functional.pad(inner, pad)
