"""Holds the draws of numbers: each under the bootstrap's weights, by protocol and name.

Two numbers of one protocol are compared draw by draw: draw i has the same weights of the same patients
(`metrics.difference`). Written beside an evaluation's numbers, and by training for each of its own. Reads
without torch, since reports do.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chexdist.errors import UserError
from chexdist.metrics.difference import DRAWS
from shards.files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 1 << 26
Draws = dict[tuple[str, str], np.ndarray]
"""float64 [DRAWS] by the hash of the protocol and the metric's name."""


def write(path: Path, draws: "dict[tuple[str, str], Tensor]") -> None:
    """Replace the file; 8 kB a number. Draws that are not all finite are left out: nothing can be compared by
    them. Raises OSError where it can't be written.
    """
    from safetensors.numpy import save

    arrays = {f"{protocol}/{name}": tensor.numpy() for (protocol, name), tensor in draws.items()}
    replace_file(path, save({key: array for key, array in arrays.items() if np.isfinite(array).all()}))


def read(path: Path) -> Draws:
    """What `write` wrote; nothing where there is no such file, as in runs of earlier releases.

    Raises:
        UserError: it is damaged, or not such a file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        if not path.exists():
            return {}
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path} is not what chexdist writes: delete it, and measure again")
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}; delete it, and measure again") from None
    found: Draws = {}
    for key, values in tensors.items():
        protocol, slash, name = key.partition("/")
        if not slash or values.dtype != np.float64 or values.shape != (DRAWS,):
            raise UserError(f"{path} is damaged: {key!r:.80} is no number's {DRAWS} draws; delete it")
        if not np.isfinite(values).all():
            raise UserError(f"{path} is damaged: {key!r:.80} holds values that are not finite; delete it")
        found[protocol, name] = values
    return found
