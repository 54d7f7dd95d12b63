"""Decides the precision of a measurement: full float32, whatever training has switched on around it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32 in convolutions: a GPU's default, its 10 bits would move a metric."""
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        conv.fp32_precision = before
