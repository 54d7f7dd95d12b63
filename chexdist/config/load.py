"""Decides where settings come from: a YAML file, then `--section.key value` on the command line."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chexdist.config.reference import settings
from chexdist.config.rules import resolve
from chexdist.config.shipped import shipped
from chexdist.config.tree import Config, Ramp
from chexdist.errors import UserError

PATHS = {"data.shards", "data.cache", "run.dir", "train.start"}
"""Settings that are names: `2024` and `no` stay as they are written."""

MEMBER = re.compile(r"Ramp|(constrained-)?float|literal\[.*\]")
"""What pydantic adds to the name of a setting of several kinds."""


def load_config(source: str, overrides: list[str]) -> Config:
    """The resolved configuration.

    Args:
        source: path of a YAML file, or the name of one that comes with the package (`wgan-gp`).
        overrides: `--section.key value` or `--section.key=value`, as on the command line.

    Raises:
        UserError: for a file that is not there or not YAML, an unknown key, a wrong value, or a combination
            that is refused.
    """
    text, name = _read(source)
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {min(mark.line + 1, len(text.splitlines()))}" if mark else ""
        raise UserError(f"{name} is not YAML{line}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{name} must be sections with keys, such as `model:` and below it `name: dcgan`")
    for path, value in _pairs(overrides):
        _put(tree, path, value)
    return build_config(tree)


def build_config(tree: dict[str, Any]) -> Config:
    """The resolved configuration from nested dictionaries; raises `UserError` as `load_config` does."""
    try:
        return resolve(Config.model_validate(tree))
    except ValidationError as error:
        raise UserError("; ".join(_lines(error.errors())[:3])) from None


def _read(source: str) -> tuple[str, str]:
    path, named = Path(source), shipped()
    if source in named and not path.is_file():  # a run directory may have the name of its configuration
        return named[source].read_text(encoding="utf-8"), source
    if path.suffix in {".yaml", ".yml"} or path.exists():
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UserError(f"--config {source}: {reason}") from None
    raise UserError(f"--config {source}: no such file, and no configuration of that name: {', '.join(named)}")


def _pairs(overrides: list[str]) -> list[tuple[list[str], Any]]:
    pairs, rest = [], list(overrides)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name:
            raise UserError(
                f"{word}: unknown option; settings are written --section.key value, such as --train.batch 64"
            )
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{word}: a value must follow")
            text = rest.pop(0)
        pairs.append((name.split("."), text if name in PATHS else _value(text)))
    return pairs


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"--{'.'.join(path)}: {key} is not a section")
        tree = inner
    tree[path[-1]] = value


def _lines(problems: Sequence[Any]) -> list[str]:
    """A line for each thing that is wrong. Of a setting that may be a number or a ramp, pydantic says for
    each kind why it is not that; here, one line says what it may be, or what is wrong within the ramp.
    """
    lines = []
    kinds = {setting.key: setting.kind for setting in settings()}
    for problem in sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden"):
        *outer, last = problem["loc"]
        key = ".".join(map(str, outer))
        if MEMBER.fullmatch(str(last)):
            if not isinstance(problem["input"], dict):
                lines.append(f"{key} {problem['input']!r}: must be a {kinds[key]}")
        else:
            lines.append(_explain(problem))
    return list(dict.fromkeys(lines))


def _explain(problem: Any) -> str:
    *outer, last = [str(part) for part in problem["loc"] if not MEMBER.fullmatch(str(part))]
    section = ".".join(outer)
    name = f"{section}.{last}" if section else last
    if problem["type"] == "extra_forbidden":
        known = [setting.key for setting in settings()] if section else list(Config.model_fields)
        if "Ramp" in problem["loc"]:
            known = [f"{section}.{key}" for key in Ramp.model_fields]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        return f"{name}: no such setting; the nearest is {near[0]}"
    if problem["type"] == "missing":
        return f"{name}: must be set"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name} {problem['input']!r}: {message}"
