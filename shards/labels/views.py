"""Which view of the chest an image is, by a label file's column of views: frontal, lateral or another one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from shards.labels.labels import OTHER_VIEWS, ImageLabel

FRONTAL, LATERAL, OTHER = "frontal", "lateral", "other"
FRONTAL_VIEWS = frozenset(
    {"frontal", "pa", "ap", "ap_horizontal", "ap supine", "ap axial", "pa lld", "ap lld"}
)
LATERAL_VIEWS = frozenset(
    {"lateral", "l", "ll", "rl", "lat", "left lateral", "right lateral", "xtable lateral"}
)


def view_of(text: str) -> str:
    """`frontal` for PA, AP, Frontal; `lateral` for L, LL, Lateral; else `other` (COSTAL, unknown, empty)."""
    name = text.strip().lower()
    return FRONTAL if name in FRONTAL_VIEWS else LATERAL if name in LATERAL_VIEWS else OTHER


def only_view(label: ImageLabel, text: str, wanted: str | None) -> ImageLabel:
    """The label, or that it is left out because the view `text` is not the `wanted` one."""
    if wanted is None or view_of(text) == wanted:
        return label
    return replace(label, label=None, conflict="", left_out=OTHER_VIEWS)


def view_warnings(texts: Iterable[str], wanted: str | None) -> list[str]:
    """What to say of a file whose images are of several views, where none of them was asked for."""
    counts = Counter(view_of(text) for text in texts)
    if wanted or not counts[FRONTAL] or counts[FRONTAL] == counts.total():
        return []
    others = ", ".join(f"{counts[view]} {view}" for view in (LATERAL, OTHER) if counts[view])
    return [f"{counts[FRONTAL]} frontal views, and {others}: --view frontal takes the frontal ones alone"]
