"""Reads a run's log back."""

import json
from pathlib import Path

from chexdist.errors import UserError
from chexdist.metrics.value import Metric
from chexdist.run import layout


def read_log(run: Path) -> list[Metric]:
    """The metrics of a run in the order in which they were measured; a last line that a kill cut short is
    left out.

    Raises:
        UserError: there is no log, or a line is no metric.
    """
    path = run / layout.LOG
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Metric.from_dict(json.loads(line)) for line in lines[:-1]]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; is {run} a run directory?") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} holds a line that is no metric: {error}") from None
