"""Draws a batch's random numbers while the one before it is trained, in a thread of their own.

Where they are drawn changes none of them: each is a function of (seed, draw, step, index in the batch). On a
large GPU a step takes the host a few milliseconds, and they are a part of those.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from chexdist.distributed.noise import Draw


class DrawnAhead:
    """Asks for batch t + 1 what it is asked for batch t."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="draws")
        self._batch = 0
        self._asked: dict[Any, Future[np.ndarray]] = {}
        self._next: dict[Any, Future[np.ndarray]] = {}

    def __call__(
        self, function: Callable[..., np.ndarray], seed: int, draw: Draw, step: int, rows: range, *more: Any
    ) -> np.ndarray:
        """`function(seed, draw, step, rows, *more)`, with a function of `chexdist.distributed.noise`."""
        if step != self._batch:  # what was drawn for it and is not asked for is forgotten
            self._asked = self._next if step == self._batch + 1 else {}
            self._batch, self._next = step, {}
        asked = (function, seed, draw, rows, *more)
        drawn = self._asked.pop(asked, None)
        self._next[asked] = self._thread.submit(function, seed, draw, step + 1, rows, *more)
        return drawn.result() if drawn else function(seed, draw, step, rows, *more)
