"""Decides who computes the parts of a large sum: this process all of them, unless ranks share them.

A formula says how many parts there are and computes one; it knows no rank. Which parts there are does not
depend on who computes them, and they are added in their order, so the digits are the same at any world size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Part = Callable[[int], Tensor]
Share = Callable[[int, Part], list[Tensor]]
"""(number of parts, part of that number) -> all parts, in order."""


def _alone(count: int, part: Part) -> list[Tensor]:
    return [part(number) for number in range(count)]


_share: ContextVar[Share] = ContextVar("share", default=_alone)


@contextmanager
def shared(share: Share) -> Iterator[None]:
    """Within it, `share` computes all parts; all ranks have to measure the same in the same order."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def total(count: int, part: Part) -> Tensor:
    """The sum of part(0), ..., part(count - 1), tensors of one shape, added in this order."""
    first, *others = _share.get()(count, part)
    return sum(others, start=first)
