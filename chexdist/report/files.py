"""Reads the small files of a run directory, which may come from someone else: everything is checked."""

import json
import re
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from chexdist.errors import UserError
from chexdist.metrics.value import OPTIONAL, Metric
from chexdist.run import layout
from chexdist.run.log import read_log

MOST_BYTES = 2**20
MOST_LOG_BYTES = 2**28
LONGEST = 300
MOST_COUNT = 10**15
TYPES: dict[str, type | tuple[type, ...]] = {
    "images": int,
    "step": int,
    "name": str,
    "unit": str,
    "value": (int, float),
    "n": int,
    "low": (int, float, NoneType),
    "high": (int, float, NoneType),
    "floor": (int, float, NoneType),
    "protocol": (str, NoneType),
    "time": (int, float),
}
OPTIONAL_TYPES: dict[str, type | tuple[type, ...]] = {name: int for name in OPTIONAL}


def tidy(value: object) -> str:
    """One line that can be shown: no control or direction characters, no lone surrogates, not too long."""
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * LONGEST])
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def is_there(path: Path, most_bytes: int = MOST_BYTES) -> bool:
    """Whether there is such a file. Raises UserError for no plain file, or a larger one than runs write."""
    try:
        if not path.exists():
            return False
        if not path.is_file():
            raise UserError(f"{path} is not a plain file")
        if path.stat().st_size > most_bytes:
            raise UserError(f"{path} is larger than {most_bytes >> 20} MiB: it is not what a run writes")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return True


def read_text(path: Path) -> str | None:
    """The file's text; None when there is none. Raises UserError as `is_there` does, and for no UTF-8."""
    try:
        return path.read_text(encoding="utf-8") if is_there(path) else None
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged: not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is no such file. Raises UserError when it is none."""
    text = read_text(path)
    if text is None:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {tidy(error)}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged: not a JSON object")
    return document


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: nested, they make a few lines stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds aliases, which a run never writes")
        return super().compose_node(parent, index)


def read_settings(path: Path) -> dict[str, str] | None:
    """`section.key` -> value as text; None for no such file. Raises UserError for no YAML mapping."""
    text = read_text(path)
    if text is None:
        return None
    try:
        tree = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {tidy(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} is damaged: not sections with keys")
    return dict(_flat(tree, ""))


def flat(tree: dict[str, Any]) -> dict[str, str]:
    """`a.b` -> value as text, for nested JSON objects."""
    return dict(_flat(tree, ""))


def _flat(tree: dict[Any, Any], prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{tidy(key)}"
        if isinstance(value, dict) and value:
            found += _flat(value, f"{name}.")
        elif isinstance(value, list):
            found.append((name, tidy(", ".join(tidy(each) for each in value[:LONGEST]))))
        else:
            found.append((name, "–" if value in (None, "", {}) else tidy(value)))
    return found


def read_metrics(run: Path) -> list[Metric]:
    """What the log holds, as `read_log` reads it; nothing when there is none yet."""
    path = run / layout.LOG
    if not is_there(path, MOST_LOG_BYTES):
        return []
    try:
        metrics = read_log(run)
        for metric in metrics:
            _check_types(metric.to_dict())
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} holds a line that is no metric: {tidy(error)}") from None
    return metrics


def metrics_of(documents: object) -> list[Metric]:
    """Metrics from JSON. Raises ValueError or TypeError, naming what is wrong."""
    if not isinstance(documents, list):
        raise TypeError("metrics is not a list")
    found = []
    for document in documents:
        if not isinstance(document, dict) or set(document) - set(OPTIONAL_TYPES) != set(TYPES):
            raise ValueError("a metric lacks fields, or has others")
        _check_types(document)
        try:
            found.append(Metric.from_dict(document))
        except OverflowError:
            raise ValueError(f"metric {tidy(document['name'])}: a number is too large") from None
    return found


def _check_types(document: dict[str, Any]) -> None:
    for key, types in (TYPES | OPTIONAL_TYPES).items():
        if key in OPTIONAL_TYPES and key not in document:
            continue
        value = document[key]
        if not isinstance(value, types) or isinstance(value, bool):
            raise TypeError(f"metric {tidy(document['name'])}: {key} is {tidy(value)}")
        if types is int and isinstance(value, int) and value > MOST_COUNT:
            raise ValueError(f"metric {tidy(document['name'])}: {key} is too large")
    if not document["name"]:
        raise ValueError("a metric without a name")
    if document["protocol"] is not None and not re.fullmatch("[0-9a-f]{12}", document["protocol"]):
        raise ValueError(
            f"metric {tidy(document['name'])}: {tidy(document['protocol'])} is no protocol's hash"
        )
